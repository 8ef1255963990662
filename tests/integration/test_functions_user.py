"""The database user that migrations make for the functions: rows, and nothing else. On MySQL."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import pymysql
import pytest

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.domain.model import Chat, new_id
from chat.settings import Secret
from migrations.functions_user import UserError
from migrations.runner import upgrade
from tests.kit.databases import fresh_mysql, mysql_admin, mysql_ask
from tests.kit.redis_servers import given

DENIED = {1142, 1044, 1227, 1410}
"""Source: MySQL 8.4 Error Reference: the user may not do this to a table, the database, the server, to users."""


def as_one_who_may_grant(url: str) -> str:
    """Return the URL with a user who may pass its rights on: its own, or the root of a server for tests."""
    if any("WITH GRANT OPTION" in row[0] for row in mysql_ask(url, "SHOW GRANTS")):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=f"root@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
def owner() -> Iterator[str]:
    with fresh_mysql(given("MYSQL_URL")) as url:
        yield as_one_who_may_grant(url)


@pytest.fixture
def functions(owner) -> Iterator[str]:
    user = f"functions_{uuid4().hex[:12]}"
    parts = urlsplit(owner)
    yield parts._replace(netloc=f"{user}:first%40pass@{parts.hostname}:{parts.port}").geturl()
    with closing(mysql_admin(owner)) as admin, admin.cursor() as cursor:
        cursor.execute(f"DROP USER IF EXISTS {user}")


def test_it_reads_and_writes_rows_of_every_table(owner, functions):
    upgrade(owner, functions_url=functions)
    for table in ("chats", "messages", "message_sources"):
        mysql_ask(functions, f"SELECT count(*) FROM {table}")
        mysql_ask(functions, f"DELETE FROM {table} WHERE false")


async def test_the_functions_work_with_it(owner, functions):
    upgrade(owner, functions_url=functions)
    chats = SqlChatRepository(open_engine(Secret(functions)))
    try:
        chat = Chat(new_id(), "user", None, None, datetime.now(UTC))
        await chats.create(chat, None, None)
    finally:
        await chats.close()
    assert mysql_ask(owner, "SELECT id FROM chats") == [(chat.id,)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id INT)",
        "DROP TABLE messages",
        "ALTER TABLE chats ADD COLUMN more INT",
        "TRUNCATE messages",
        "SELECT * FROM alembic_version",
        "UPDATE alembic_version SET version_num = '9999'",
        "CREATE USER somebody",
        "GRANT SELECT ON chats TO root",
    ],
)
def test_it_can_do_nothing_else(owner, functions, statement):
    upgrade(owner, functions_url=functions)
    with pytest.raises(pymysql.MySQLError) as caught:
        mysql_ask(functions, statement)
    assert caught.value.args[0] in DENIED, caught.value


def test_a_rotated_password_is_one_migration_away(owner, functions):
    upgrade(owner, functions_url=functions)
    rotated = functions.replace("first%40pass", "second'pass")
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        mysql_ask(rotated, "SELECT 1")
    upgrade(owner, functions_url=rotated)
    assert mysql_ask(rotated, "SELECT 1") == [(1,)]
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        mysql_ask(functions, "SELECT 1")


def test_the_owner_is_not_made_a_user_of_rows(owner):
    with pytest.raises(UserError, match="one of its own"):
        upgrade(owner, functions_url=owner)
    upgrade(owner)
