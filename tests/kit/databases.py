"""Databases for tests, at their schema: a fresh SQLite file for each test, a MySQL database for each test module."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pymysql
import pytest

from migrations.runner import upgrade
from tests.kit.redis_servers import given

EVERY_DATABASE = ["sqlite", "MYSQL_URL"]


def mysql_admin(url: str) -> pymysql.Connection:
    """Connect to the server of `url`, without choosing a database."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        autocommit=True,
        ssl_disabled=True,
    )


def mysql_ask(url: str, statement: str, *values: object) -> list[tuple]:
    """Run one statement on a connection of its own, in the database of `url`."""
    with closing(mysql_admin(url)) as connection, connection.cursor() as cursor:
        connection.select_db(urlsplit(url).path.strip("/"))
        cursor.execute(statement, values)
        return list(cursor.fetchall())


@contextmanager
def fresh_mysql(server_url: str) -> Iterator[str]:
    """Create an empty database with a name of its own on the server of `server_url`, and drop it afterwards."""
    name = f"chat_test_{os.getpid()}_{uuid4().hex[:12]}"
    _as_admin(server_url, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        _as_admin(server_url, f"DROP DATABASE {name}")


def _as_admin(server_url: str, statement: str) -> None:
    with closing(mysql_admin(server_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET lock_wait_timeout = 10")  # a forgotten transaction fails the test instead of hanging it
        cursor.execute(statement)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "chat.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite file of the test's own."""
    path = tmp_path / "chat.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def mysql_url() -> Iterator[str]:
    """A MySQL database that the tests of one module share: they tell their rows apart by new ids."""
    with fresh_mysql(given("MYSQL_URL")) as url:
        upgrade(url)
        yield url


@pytest.fixture(params=EVERY_DATABASE)
def database_url(request: pytest.FixtureRequest) -> str:
    """Each database that is at hand, one after the other."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "mysql_url")
