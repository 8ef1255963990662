"""Which errors of MySQL end a connection's use."""

import pymysql
import pytest

from chat.adapters.mysql.engine import open_engine
from chat.settings import Secret


def ends(error: Exception) -> bool:
    dialect = open_engine(Secret("mysql://user@localhost/chat")).dialect
    return dialect.is_disconnect(error, None, None)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(2006, "MySQL server has gone away"),
        pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query (timed out)"),
        pymysql.err.OperationalError(4031, "The client was disconnected by the server because of inactivity."),
        pymysql.err.InterfaceError(0, ""),
        pymysql.err.OperationalError(1290, "The MySQL server is running with the --super-read-only option"),
        pymysql.err.OperationalError(1836, "Running in read-only mode"),
    ],
)
def test_lost_closed_or_demoted_to_a_replica_it_is_dropped(error):
    assert ends(error)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock"),
        pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"),
        pymysql.err.IntegrityError(1062, "Duplicate entry"),
        pymysql.err.ProgrammingError(1146, "Table doesn't exist"),
    ],
)
def test_otherwise_it_is_used_again(error):
    assert not ends(error)


class Cursor:
    """Writes values as PyMySQL does, and notes what is sent."""

    max_stmt_length = 1024000

    def __init__(self) -> None:
        self.sent: list[object] = []

    def mogrify(self, statement: str, values: dict) -> str:
        return statement % {name: pymysql.converters.escape_item(value, "utf8mb4") for name, value in values.items()}

    def execute(self, statement: str, values: object) -> None:
        self.sent.append(values)

    def executemany(self, statement: str, values: object) -> None:
        self.sent.append(values)


UPDATE = "UPDATE t SET a = %(a)s, b = %(b)s"
LIMIT = 1000
LONGEST = LIMIT - 2 - len(UPDATE % {"a": "''", "b": "1"})


@pytest.mark.parametrize("character", ["a", "'", "가", "👍"])
def test_a_statement_that_the_server_would_not_read_is_not_sent(character):
    dialect = open_engine(Secret("mysql://user@localhost/chat")).dialect
    longest = character * (LONGEST // len(pymysql.converters.escape_string(character).encode()))
    cursor = Cursor()
    dialect.do_execute(cursor, UPDATE, {"a": longest * 9, "b": 1})
    dialect.max_packet_bytes = LIMIT
    dialect.do_execute(cursor, UPDATE, {"a": longest, "b": 1})
    dialect.do_executemany(cursor, UPDATE, [{"a": longest, "b": 1}, {"a": longest, "b": 1}])
    assert len(cursor.sent) == 3
    assert cursor.max_stmt_length < LIMIT
    too_long = {"a": longest + character, "b": 1}
    for send, values in ((dialect.do_execute, too_long), (dialect.do_executemany, [too_long])):
        with pytest.raises(pymysql.err.OperationalError) as caught:
            send(cursor, UPDATE, values)
        assert caught.value.args[0] == 1153
    assert len(cursor.sent) == 3
