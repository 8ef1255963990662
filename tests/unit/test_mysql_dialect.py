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
