"""MySQL through PyMySQL with no round trip that we did not ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pymysql.constants import SERVER_STATUS
from sqlalchemy import Connection
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, DBAPIModule
from sqlalchemy.pool import PoolProxiedConnection

READ_ONLY = {1290, 1836}
"""What a demoted primary says to writers after a failover; its connections are useless from then on.

Source: MySQL 8.4 Error Reference, ER_OPTION_PREVENTS_STATEMENT and ER_READ_ONLY_MODE.
"""


class QuietMySQL(MySQLDialect_pymysql):
    """For connections in autocommit mode, on which transactions are begun explicitly."""

    supports_statement_cache = True

    def initialize(self, connection: Connection) -> None:
        """Ask the server nothing: our statements are the same for every version and mode."""

    def on_connect(self) -> Callable[[DBAPIConnection], None]:
        """Do nothing: PyMySQL has named the character set by itself."""
        return lambda _: None

    def do_rollback(self, dbapi_connection: DBAPIConnection) -> None:
        """Roll back only what was begun: a read has nothing to undo. The server's last reply says which."""
        driver = cast("Any", dbapi_connection)  # a pymysql.Connection
        if driver.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            driver.rollback()

    def is_disconnect(
        self,
        e: DBAPIModule.Error,
        connection: PoolProxiedConnection | DBAPIConnection | None,
        cursor: DBAPICursor | None,
    ) -> bool:
        return super().is_disconnect(e, connection, cursor) or e.args[0] in READ_ONLY
