"""Opens MySQL (or SQLite) with bounded waits, and runs transactions on it in threads.

Connections are in autocommit: a single statement costs one round trip, and a transaction is BEGIN to COMMIT around what
needs one. No statement sets anything for the session, which would pin a connection behind RDS Proxy.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from chat.errors import StorageUnavailable
from chat.settings import Secret

T = TypeVar("T")

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
"""How long one statement may take."""
IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process would wait for a dead one."""
MOST_CONNECTIONS = 16
ATTEMPTS = 4
REPEATABLE = {1205, 1213}
"""Lock wait timeout, deadlock: the transaction was rolled back and may be tried again.

Source: MySQL reference manual, "Server Error Message Reference".
"""


def open_engine(url: Secret, concurrency: int = 1) -> Engine:
    """Return an engine whose pool is as large as the process's concurrency, within bounds; nothing connects yet.

    `?ssl_ca=PATH` makes TLS that verifies certificate and host name; `?ssl_ca=system` takes the system's authorities.
    """
    target, options = engine_options(url)
    size = min(max(concurrency, 1), MOST_CONNECTIONS)
    engine = create_engine(
        target, **options, pool_size=size, max_overflow=0, pool_timeout=ANSWER_SECONDS, pool_reset_on_return=None
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _drop_if_idle)
    return engine


def engine_options(url: Secret) -> tuple[URL, dict[str, Any]]:
    """Return SQLAlchemy's URL for `url`, and the options with which its connections are bounded and in autocommit."""
    target = make_url(url.reveal())
    if target.get_backend_name() == "sqlite":
        return target, {"connect_args": {"timeout": ANSWER_SECONDS}, "isolation_level": "AUTOCOMMIT"}
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": ANSWER_SECONDS,
        "write_timeout": ANSWER_SECONDS,
    }
    authority = target.query.get("ssl_ca")
    if isinstance(authority, str):
        # Not PyMySQL's own `ssl_ca`: that one verifies neither certificate nor host name.
        arguments["ssl"] = ssl.create_default_context(cafile=None if authority == "system" else authority)
    target = target.set(drivername="mysql+pymysql").difference_update_query(["ssl_ca"])
    return target, {"connect_args": arguments, "isolation_level": "AUTOCOMMIT"}


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _note_use(_: object, record: Any) -> None:
    record.info["used_at"] = time.time()


def _drop_if_idle(_: object, record: Any, __: object) -> None:
    if time.time() - record.info.get("used_at", time.time()) > IDLE_SECONDS:
        record.info.clear()
        raise DisconnectionError("idle for too long")


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run the block between BEGIN and COMMIT; on any error, ROLLBACK."""
    is_sqlite = connection.dialect.name == "sqlite"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_sqlite else "BEGIN")
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


class Database:
    """Runs synchronous work on connections in threads of its own, as many as the pool has connections."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        size: int = engine.pool.size()  # type: ignore[attr-defined]
        self._threads = ThreadPoolExecutor(max_workers=size, thread_name_prefix="sql")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a connection; a transaction that the server gave up for a lock is tried again.

        When the caller is cancelled the work goes on to its end, and its connection returns to the pool.

        Raises:
            StorageUnavailable: the database did not answer; the work may or may not have been done.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._attempt, work)

    async def close(self) -> None:
        """Close the pool; waits for work under way."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self.engine.dispose()

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.engine.connect() as connection:
                    return work(connection)
            except (OperationalError, InterfaceError, DisconnectionError, PoolTimeoutError) as error:
                if attempt == ATTEMPTS or not _may_repeat(error):
                    raise StorageUnavailable from error
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise  # a fault of ours
                raise StorageUnavailable from error
        raise AssertionError("unreachable")


def _may_repeat(error: Exception) -> bool:
    cause = getattr(error, "orig", None)
    return bool(cause and cause.args and cause.args[0] in REPEATABLE)
