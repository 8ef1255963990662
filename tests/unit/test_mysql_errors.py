"""Which errors mean that a store is away, and which that it refuses."""

import sqlite3
from pathlib import Path

import pymysql
import pytest
from sqlalchemy.exc import DBAPIError

from chat.adapters.mysql.database import Database
from chat.adapters.mysql.engine import open_engine
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.settings import Secret

E = pymysql.err
REFUSED = [
    E.OperationalError(1153, "Got a packet bigger than 'max_allowed_packet' bytes"),
    E.OperationalError(1114, "The table 'messages' is full"),
    E.OperationalError(1118, "Row size too large", sqlstate="42000"),
    E.DataError(1406, "Data too long for column 'content' at row 1"),
    E.DataError(1264, "Out of range value for column 'input_tokens' at row 1"),
    E.DataError(1366, "Incorrect string value for column 'content' at row 1"),
    E.OperationalError(1292, "Incorrect datetime value", sqlstate="22007"),
    E.IntegrityError(1048, "Column 'status' cannot be null"),
    E.IntegrityError(1062, "Duplicate entry"),
    E.OperationalError(3819, "Check constraint 'messages_chk_1' is violated."),
    E.OperationalError(4025, "CONSTRAINT `messages` failed", sqlstate="23000"),
]
AWAY = [
    E.OperationalError(1205, "Lock wait timeout exceeded"),
    E.OperationalError(1213, "Deadlock found when trying to get lock", sqlstate="40001"),
    E.OperationalError(2003, "Can't connect to MySQL server"),
    E.OperationalError(2013, "Lost connection to MySQL server during query"),
    E.OperationalError(1040, "Too many connections"),
    E.OperationalError(1290, "The MySQL server is running with the --read-only option"),
    E.OperationalError(1792, "Cannot execute statement in a READ ONLY transaction.", sqlstate="25006"),
    E.OperationalError(1836, "Running in read-only mode"),
    E.OperationalError(3024, "Query execution was interrupted, maximum statement execution time exceeded"),
    E.InterfaceError(0, ""),
]
MISTAKES = [
    E.ProgrammingError(1146, "Table 'chat.messages' doesn't exist", sqlstate="42S02"),
    E.OperationalError(1054, "Unknown column 'truncated' in 'field list'", sqlstate="42S22"),
]


async def raised(error: Exception, driver: type[Exception], folder: Path) -> BaseException:
    database = Database(open_engine(Secret(f"sqlite:///{folder}/chat.db")))

    def work(_: object) -> None:
        raise DBAPIError.instance("UPDATE", {}, error, driver, dialect=database.engine.dialect) from error

    with pytest.raises(Exception) as caught:
        await database.run(work)
    await database.close()
    return caught.value


def named(error: Exception) -> str:
    return str(error.args[0])


@pytest.mark.parametrize("error", REFUSED, ids=named)
async def test_what_mysql_will_never_take_is_refused(error, tmp_path):
    found = await raised(error, pymysql.Error, tmp_path)
    assert type(found) is StorageRefused
    assert found.reason == str(error.args[0])


@pytest.mark.parametrize("error", AWAY, ids=named)
async def test_what_may_pass_is_away(error, tmp_path):
    assert type(await raised(error, pymysql.Error, tmp_path)) is StorageUnavailable


@pytest.mark.parametrize("error", MISTAKES, ids=named)
async def test_a_mistake_of_ours_is_neither(error, tmp_path):
    assert not isinstance(await raised(error, pymysql.Error, tmp_path), StorageUnavailable)


@pytest.mark.parametrize(("code", "is_refused"), [(13, True), (18, True), (8, False), (5, False), (10, False)])
async def test_sqlite_refuses_what_is_too_big_or_has_no_room(code, is_refused, tmp_path):
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    found = await raised(error, sqlite3.Error, tmp_path)
    assert type(found) is (StorageRefused if is_refused else StorageUnavailable)
