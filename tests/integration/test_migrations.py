"""Bringing a database to its schema: on SQLite, and on MySQL where there is one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect

from chat.adapters.mysql.engine import engine_options
from chat.adapters.mysql.tables import metadata
from chat.settings import Secret
from migrations.runner import MigrationError, NewerSchema, head, upgrade
from tests.kit.databases import EVERY_DATABASE, fresh_mysql, mysql_admin
from tests.kit.redis_servers import given

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=EVERY_DATABASE)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty 100%.db"
        return
    with fresh_mysql(given("MYSQL_URL")) as url:
        yield url


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    target, options = engine_options(Secret(url))
    engine = create_engine(target, **options)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def schema_of(url: str) -> dict[str, str]:
    """Every table as the database itself writes it down."""
    with connect(url) as connection:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
            found = {name: " ".join(sql.split()) for name, sql in rows}
        else:
            names = inspect(connection).get_table_names()
            made = {name: connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()[1] for name in names}
            found = {
                name: "\n".join(sorted(line.rstrip(",") for line in sql.split("\n"))) for name, sql in made.items()
            }
    found.pop("alembic_version", None)
    return found


FULLTEXT = "ALTER TABLE search_texts ADD FULLTEXT INDEX ft_search (content) WITH PARSER ngram"
"""What MySQL has that SQLAlchemy's tables, which serve every database, do not say."""


def created_from_tables(url: str) -> dict[str, str]:
    with connect(url) as connection:
        metadata.create_all(connection)
        if connection.dialect.name == "mysql":
            connection.exec_driver_sql("SET SESSION innodb_ft_enable_stopword = 0")
            connection.exec_driver_sql(FULLTEXT)
    return schema_of(url)


def version(url: str) -> str:
    with connect(url) as connection:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()


def run(url: str, *statements: str) -> None:
    with connect(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_the_migrated_schema_is_the_one_that_the_code_knows(empty_url):
    upgrade(empty_url)
    assert version(empty_url) == head()
    with connect(empty_url) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        assert [one for one in differences if not (one[0] == "remove_index" and one[1].name == "ft_search")] == []


def test_to_the_letter_also_where_alembic_does_not_look(empty_url, tmp_path):
    upgrade(empty_url)
    if empty_url.startswith("sqlite"):
        expected = created_from_tables(f"sqlite:///{tmp_path}/other.db")
    else:
        with fresh_mysql(empty_url) as other_url:
            expected = created_from_tables(other_url)
    assert len(expected) >= 3
    assert schema_of(empty_url) == expected


def test_on_mysql_names_and_texts_compare_byte_by_byte_and_texts_are_large():
    with fresh_mysql(given("MYSQL_URL")) as url:
        upgrade(url)
        with connect(url) as connection:
            rows = connection.exec_driver_sql(
                "SELECT table_name, column_name, data_type, collation_name FROM information_schema.columns"
                " WHERE table_schema = DATABASE() AND table_name <> 'alembic_version' AND collation_name IS NOT NULL"
            ).all()
    assert len(rows) > 15
    other = {(table, column) for table, column, _, collation in rows if not collation.endswith("_bin")}
    assert other == {("search_texts", "content")}, "only the search does not care for case"
    kinds = {(table, column): kind for table, column, kind, _ in rows}
    assert kinds["messages", "content"] == kinds["messages", "reasoning"] == "mediumtext"
    assert kinds["chats", "system_prompt"] == "mediumtext"


def test_again_it_changes_nothing_and_keeps_what_is_stored(empty_url):
    upgrade(empty_url)
    run(
        empty_url,
        "INSERT INTO chats (id, user_id, next_seq, created_at, updated_at)"
        " VALUES ('c', 'u', 1, '2030-01-01 00:00:00', '2030-01-01 00:00:00')",
    )
    before = schema_of(empty_url)
    upgrade(empty_url)
    assert schema_of(empty_url) == before
    with connect(empty_url) as connection:
        assert connection.exec_driver_sql("SELECT id FROM chats").scalars().all() == ["c"]


def test_several_at_once_are_one(empty_url):
    start = threading.Barrier(4)

    def together(_: int) -> None:
        start.wait()
        upgrade(empty_url)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(together, range(4))) == [None] * 4
    assert version(empty_url) == head()


def test_a_run_that_was_cut_off_is_completed(empty_url):
    upgrade(empty_url)
    whole = schema_of(empty_url)
    is_sqlite = empty_url.startswith("sqlite")
    run(
        empty_url,
        "DROP TABLE message_sources",
        "DROP INDEX ix_messages_reply" + ("" if is_sqlite else " ON messages"),
        "DROP TABLE alembic_version",
    )
    upgrade(empty_url)
    assert schema_of(empty_url) == whole
    assert version(empty_url) == head()


def test_a_newer_schema_is_left_as_it_is(empty_url):
    upgrade(empty_url)
    run(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    before = schema_of(empty_url)
    with pytest.raises(NewerSchema, match=f"9999.*newer.*{head()}"):
        upgrade(empty_url)
    assert version(empty_url) == "9999"
    assert schema_of(empty_url) == before


def test_a_lock_that_another_holds_is_named():
    with fresh_mysql(given("MYSQL_URL")) as url, closing(mysql_admin(url)) as other, other.cursor() as cursor:
        database = urlsplit(url).path.strip("/")
        assert cursor.execute("SELECT GET_LOCK(%s, 0)", (f"aiva-chat-migrations:{database}"[:64],)) == 1
        with pytest.raises(MigrationError, match="another migration"):
            upgrade(url, lock_seconds=0)
        cursor.execute("SELECT RELEASE_ALL_LOCKS()")
        upgrade(url, lock_seconds=0)
        assert version(url) == head()


class TestCommand:
    @staticmethod
    def command(**environ: str) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in os.environ.items() if name != "MYSQL_URL"}
        return subprocess.run(
            [sys.executable, "-m", "migrations"],
            env={**variables, "PYTHONPATH": "layers/common", **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_it_upgrades_the_database_that_the_environment_names(self, empty_url):
        done = self.command(MYSQL_URL=empty_url)
        assert (done.returncode, done.stderr) == (0, "")
        assert head() in done.stdout
        assert version(empty_url) == head()

    def test_without_a_database_it_says_so(self):
        done = self.command()
        assert done.returncode != 0
        assert done.stderr == "MYSQL_URL is not set\n"

    def test_a_newer_schema_is_one_line(self, empty_url):
        upgrade(empty_url)
        run(empty_url, "UPDATE alembic_version SET version_num = '9999'")
        done = self.command(MYSQL_URL=empty_url)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert "9999" in done.stderr


def test_the_layer_loads_neither_alembic_nor_the_orm():
    code = (
        "import sys, chat.adapters.mysql.repository, chat.adapters.mysql.dialect, chat.adapters.mysql.tables;"
        "print(sorted({'alembic', 'sqlalchemy.orm', 'sqlalchemy.ext', 'sqlite3'} & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "layers" / "common")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
