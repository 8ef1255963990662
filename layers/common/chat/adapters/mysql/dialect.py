"""MySQL through PyMySQL with no round trip that we did not ask for, and no statement that the server would not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pymysql.constants import SERVER_STATUS
from sqlalchemy import Connection
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, DBAPIModule
from sqlalchemy.pool import PoolProxiedConnection

from chat.adapters.mysql.batch import BATCH, most_bytes, read_batch
from chat.adapters.mysql.engine import PACKET_TOO_LARGE

READ_ONLY = {1290, 1836}
"""What a demoted primary says to writers after a failover; its connections are useless from then on.

Source: MySQL 8.4 Error Reference, ER_OPTION_PREVENTS_STATEMENT and ER_READ_ONLY_MODE.
"""


class QuietMySQL(MySQLDialect_pymysql):
    """For connections in autocommit mode, on which transactions are begun explicitly."""

    supports_statement_cache = True
    max_packet_bytes: int | None = None
    """The longest statement that the server reads, or that the URL allows; None until it is known."""

    def initialize(self, connection: Connection) -> None:
        """Ask the server nothing: our statements are the same for every version and mode."""

    def on_connect(self) -> Callable[[DBAPIConnection], None]:
        """Ask the first connection how long a statement may be: PyMySQL has named the character set by itself.

        A server that is sent a longer one breaks the connection, which looks like an outage.
        """
        return self._learn_limit

    def _learn_limit(self, dbapi_connection: DBAPIConnection) -> None:
        if self.max_packet_bytes is None:
            driver = cast("Any", dbapi_connection)
            with driver.cursor() as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                (limit,) = cursor.fetchone()
            self.max_packet_bytes = min(int(limit), driver.max_allowed_packet)

    def do_execute(self, cursor: DBAPICursor, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute a statement, or a batch of them; refuse it as the server would, if it is too long."""
        self._check_length(cursor, statement, parameters)
        cursor.execute(statement, parameters)
        if context is not None and (results := context.execution_options.get(BATCH)) is not None:
            read_batch(cast("Any", cursor), results)

    def do_executemany(self, cursor: DBAPICursor, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute a statement for many rows; PyMySQL joins as many of them as one statement may hold."""
        for row in parameters:
            self._check_length(cursor, statement, row)
        if self.max_packet_bytes is not None:
            driver = cast("Any", cursor)
            driver.max_stmt_length = min(driver.max_stmt_length, self.max_packet_bytes - 1)
        super().do_executemany(cursor, statement, parameters, context)

    def _check_length(self, cursor: DBAPICursor, statement: str, parameters: Any) -> None:
        limit = self.max_packet_bytes
        if limit is None or most_bytes(statement, parameters) < limit:
            return
        if len(cast("Any", cursor).mogrify(statement, parameters).encode()) + 1 >= limit:
            raise self.loaded_dbapi.OperationalError(
                PACKET_TOO_LARGE, "the statement is longer than max_allowed_packet"
            )

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
