"""Runs work on connections in threads, and names the errors that mean "away"."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from chat.adapters.mysql.engine import PACKET_TOO_LARGE, REFUSED, SQLITE_BUSY
from chat.domain.errors import StorageRefused, StorageUnavailable

T = TypeVar("T")

ATTEMPTS = 4
PATIENCE_SECONDS = 2.0
"""What has taken longer is not tried again, but for a deadlock: the waits would add up."""
LOCK_WAIT, DEADLOCK = 1205, 1213
"""The server gave the transaction up, and it may be tried again.

Source: MySQL 8.4 Error Reference.
"""
SQLITE_ERROR, SQLITE_LOCKED = 1, 6
"""Primary result codes; `sqlite3` is not imported for them, MySQL does without it.

Source: SQLite, "Result and Error Codes".
"""
TABLE_FULL, ROW_TOO_LARGE, CHECK_VIOLATED, MARIADB_CHECK_VIOLATED = 1114, 1118, 3819, 4025
NEVER_TAKEN = {PACKET_TOO_LARGE, TABLE_FULL, ROW_TOO_LARGE, CHECK_VIOLATED, MARIADB_CHECK_VIOLATED}
"""What the server says to a statement that it will refuse again, beside what the driver calls wrong data.

Source: MySQL 8.4 Error Reference; MariaDB Error Codes.
"""
WRONG_DATA = ("22", "23")
"""Classes of SQLSTATE: data exception, integrity constraint violation.

Source: ISO/IEC 9075-2, "Status codes".
"""
SQLITE_NEVER_TAKEN = {13, 18}
"""The disk is full; a string is too big. Source: SQLite, "Result and Error Codes"."""
AWAY = (OperationalError, InterfaceError, InternalError, DisconnectionError, PoolTimeoutError)
"""What the driver raises when the server refuses, fails or keeps silent; and for some mistakes of ours."""


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run the block between BEGIN and COMMIT; on any error, ROLLBACK.

    Raises:
        StorageUnavailable: the reply to COMMIT did not come; everything or nothing is stored.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_sqlite else "BEGIN")
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
        raise
    try:
        connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        raise StorageUnavailable from error


@contextmanager
def rolled_back_on_error(connection: Connection) -> Iterator[None]:
    """Run the block, which begins a transaction and commits it; on any error, ROLLBACK."""
    try:
        yield
    except BaseException:
        if not connection.invalidated and _has_begun(connection):
            connection.exec_driver_sql("ROLLBACK")
        raise


def _has_begun(connection: Connection) -> bool:
    """Tell whether a transaction is open; MySQL does not mind a ROLLBACK without one."""
    driver: Any = connection.connection.dbapi_connection
    return connection.dialect.name != "sqlite" or driver.in_transaction


class Database:
    """Runs synchronous work on connections in threads of its own, as many as the pool has connections."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        size: int = engine.pool.size()  # type: ignore[attr-defined]  # it is a QueuePool
        self._threads = ThreadPoolExecutor(max_workers=size, thread_name_prefix="sql")
        self._running: set[Future[Any]] = set()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a connection; again if the server gave it up for a lock, or the connection was found dead.

        It must therefore bear to be run again after it was done. When the caller is cancelled, work that has begun goes
        on to its end, and its connection returns to the pool.

        Raises:
            StorageUnavailable: the database did not answer; the work may or may not have been done.
            StorageRefused: it answered, and will not do this work.
        """
        running = self._threads.submit(self._attempt, work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(running)

    @property
    def max_packet_bytes(self) -> int | None:
        """The longest statement that the database takes; None where there is no limit, or none is known yet."""
        limit: int | None = getattr(self.engine.dialect, "max_packet_bytes", None)
        return limit

    async def close(self) -> None:
        """Close the pool; waits for work under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if running := [asyncio.wrap_future(future) for future in list(self._running)]:
            await asyncio.gather(*running, return_exceptions=True)
        self.engine.dispose()

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        began, attempt = time.monotonic(), 1
        while True:
            try:
                with self.engine.connect() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if _is_refused(error):
                    raise StorageRefused(str(_code(error) or _sqlite_code(error))) from error
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    self._forget_limit()
                if not _is_away(error):
                    raise  # a mistake of ours, or a schema that is not this code's
                if attempt == ATTEMPTS or not _may_pass(error, time.monotonic() - began):
                    raise StorageUnavailable from error
            attempt += 1

    def _forget_limit(self) -> None:
        """Ask again how long a statement may be: a longer one, too, breaks the connection."""
        dialect: Any = self.engine.dialect
        dialect.max_packet_bytes = None


def _is_refused(error: SQLAlchemyError) -> bool:
    """Tell whether the database has looked at the statement's data and will not take it, however often it is asked."""
    if isinstance(error, DataError | IntegrityError):
        return True
    sqlstate = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return _code(error) in NEVER_TAKEN or sqlstate.startswith(WRONG_DATA) or _sqlite_code(error) in SQLITE_NEVER_TAKEN


def _is_away(error: SQLAlchemyError) -> bool:
    """Tell whether it is the database that failed, not the statement: a missing table must not look like an outage."""
    if not isinstance(error, AWAY):
        return False
    cause = getattr(error, "orig", None)
    # Class 42: syntax error or access rule violation. Source: MySQL 8.4 Error Reference.
    is_statement = str(getattr(cause, "sqlstate", None) or "").startswith("42")
    return not (is_statement and _code(error) not in REFUSED) and _sqlite_code(error) != SQLITE_ERROR


def _may_pass(error: SQLAlchemyError, seconds: float) -> bool:
    if _code(error) == DEADLOCK:
        return True
    was_dead = isinstance(error, DBAPIError) and error.connection_invalidated
    was_locked = _code(error) == LOCK_WAIT or _sqlite_code(error) in (SQLITE_BUSY, SQLITE_LOCKED)
    return seconds <= PATIENCE_SECONDS and (was_dead or was_locked)


def _code(error: SQLAlchemyError) -> object:
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments else None


def _sqlite_code(error: SQLAlchemyError) -> int:
    """Return the primary result code, 0 where there is none."""
    return int(getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)) & 0xFF
