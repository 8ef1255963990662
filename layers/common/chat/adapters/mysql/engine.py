"""Opens MySQL (or SQLite) with bounded waits.

Connections are in autocommit: a single statement costs one round trip, and a transaction is BEGIN to COMMIT around what
needs one. No statement sets anything for the session, which would pin a connection behind RDS Proxy.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.dialects import registry
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from chat.settings import Secret, SettingsError

CONNECT_SECONDS = 2
ANSWER_SECONDS = 3
"""How long one statement may take; less than what the end of an answer is given to be stored."""
BUSY_SECONDS = 5
"""How long SQLite waits for another process's transaction."""
BUSY_PAUSE_SECONDS = 0.01
SQLITE_BUSY = 5
"""Source: SQLite, "Result and Error Codes"."""
MIN_PACKET_BYTES, MAX_PACKET_BYTES = 16 * 1024, 1024**3
"""Of one statement: what our longest needs beside texts, and what a server can be set to.

Source: MySQL reference manual, `max_allowed_packet`.
"""
FOUND_ROWS, MULTI_STATEMENTS = 1 << 1, 1 << 16
"""A changed row counts also if it was so before, as SQLAlchemy expects; several statements may come at once (`batch`).

Source: MySQL, "Capabilities Flags".
"""
IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process would wait for a dead one."""
MAX_CONNECTIONS = 16
REFUSED = {1044, 1045, 1698}
"""Access denied: to the database, with this password, without one.

Source: MySQL 8.4 Error Reference.
"""
PACKET_TOO_LARGE = 1153
"""Source: MySQL 8.4 Error Reference, ER_NET_PACKET_TOO_LARGE."""

AskAgain = Callable[[], str | None]
"""Looks the URL up once more, in a thread; None when there is nothing to look up."""


def open_engine(
    url: Secret,
    concurrency: int = 1,
    on_login_refused: AskAgain | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> Engine:
    """Return an engine whose pool is one larger than the process's concurrency, within bounds; nothing connects yet.

    One larger, because a statement may hang on a dead connection after its caller has given up. With `?ssl_ca=PATH`
    TLS verifies certificate and host name, by PATH or by the `system`'s authorities; without it nothing is encrypted.
    With `?iam=true` the login is IAM's. When another is refused, `on_login_refused` may know a new URL, which is then
    tried once.

    Raises:
        SettingsError: the URL cannot be used; the message does not show it.
    """
    target, options = engine_options(url)
    if target.get_backend_name() != "sqlite":
        registry.register("mysql.quiet", "chat.adapters.mysql.dialect", "QuietMySQL")
        target = target.set(drivername="mysql+quiet")
    engine = create_engine(
        target,
        **options,
        pool_size=min(max(concurrency, 1) + 1, MAX_CONNECTIONS),
        max_overflow=0,
        pool_timeout=ANSWER_SECONDS,
        pool_reset_on_return=None,
        pool_use_lifo=True,
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare_sqlite)
    else:
        _drop_idle(engine, wall_clock)
        if is_iam(make_url(url.reveal())):
            from chat.adapters.mysql.rds_iam import RdsIam

            event.listen(engine, "do_connect", RdsIam())
        elif on_login_refused is not None:
            event.listen(engine, "do_connect", Login(url, on_login_refused))
    return engine


def engine_options(url: Secret, answer_seconds: float = ANSWER_SECONDS) -> tuple[URL, dict[str, Any]]:
    """Return SQLAlchemy's URL for `url`, and the options with which its connections are bounded and in autocommit.

    Statements with their values are kept out of error messages: they hold users' texts.

    Raises:
        SettingsError: the URL cannot be used; the message does not show it.
    """
    try:
        target = make_url(url.reveal())
    except (ArgumentError, ValueError):
        raise SettingsError("MYSQL_URL is not the URL of a database") from None
    arguments: dict[str, Any]
    if target.get_backend_name() == "sqlite":
        arguments = {"timeout": BUSY_SECONDS}
    else:
        target, arguments = _mysql_arguments(target, answer_seconds)
    arguments = {name: value for name, value in arguments.items() if name not in target.query}
    return target, {"connect_args": arguments, "isolation_level": "AUTOCOMMIT", "hide_parameters": True}


def is_iam(target: URL) -> bool:
    """Tell whether logins are IAM's: `?iam=true`."""
    return str(target.query.get("iam", "")).lower() == "true"


def _mysql_arguments(target: URL, answer_seconds: float) -> tuple[URL, dict[str, Any]]:
    if target.drivername not in ("mysql", "mysql+pymysql") or not target.database:
        raise SettingsError("MYSQL_URL must be mysql://user:password@host:port/database")
    target = target.set(drivername="mysql+pymysql")
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": answer_seconds,
        "write_timeout": answer_seconds,
        "max_allowed_packet": _packet_bytes(target),
        "client_flag": FOUND_ROWS | MULTI_STATEMENTS,
    }
    target = target.difference_update_query(["max_allowed_packet"])
    query = target.query
    authority = query.get("ssl_ca")
    if isinstance(authority, str):
        # Not PyMySQL's own `ssl_ca`: that one verifies the certificate but not the host name.
        arguments["ssl"] = _verifying(authority, query.get("ssl_cert"), query.get("ssl_key"))
        target = target.difference_update_query(["ssl_ca", "ssl_cert", "ssl_key"])
    elif not any(name.startswith("ssl") for name in query):
        # The driver would try TLS that verifies nothing, and load every authority of the system for each connection.
        arguments["ssl_disabled"] = True
    if is_iam(target) and "ssl" not in arguments:
        raise SettingsError("MYSQL_URL: iam=true needs ssl_ca, because the login is sent as it stands")
    return target.difference_update_query(["iam"]), arguments


def _packet_bytes(target: URL) -> int:
    """Return the longest statement that the URL allows, for what stands before a server and reads less than that."""
    given = target.query.get("max_allowed_packet", str(MAX_PACKET_BYTES))
    if not isinstance(given, str) or not given.isascii() or not given.isdigit() or int(given) < MIN_PACKET_BYTES:
        raise SettingsError(f"MYSQL_URL: max_allowed_packet must be a number of bytes from {MIN_PACKET_BYTES} on")
    return int(given)


def _verifying(authority: str, certificate: Any, key: Any) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if authority == "system" else authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise SettingsError(f"MYSQL_URL: a file that its ssl_ parameters name cannot be used ({error})") from error
    # Python 3.13 demands extensions that MySQL's own authorities leave out; chain and host name are still verified.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Login:
    """Opens connections, and asks once more for the URL when a login is refused: its secret may have been rotated."""

    def __init__(self, url: Secret, ask_again: AskAgain) -> None:
        self._url = url.reveal()
        self._ask_again = ask_again
        self._arguments: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, dialect: Dialect, _: ConnectionPoolEntry, __: list[Any], arguments: dict[str, Any]) -> Any:
        """Return a connection; the form is that of SQLAlchemy's event `do_connect`."""
        known = self._arguments
        try:
            return dialect.connect(**(known or arguments))
        except dialect.loaded_dbapi.OperationalError as error:
            if error.args[0] not in REFUSED or not self._found_other(dialect, known):
                raise
        return dialect.connect(**(self._arguments or arguments))

    def _found_other(self, dialect: Dialect, refused: dict[str, Any] | None) -> bool:
        with self._lock:
            if self._arguments is not refused:
                return True  # another thread has asked meanwhile
            url = self._ask_again()
            if url is None or url == self._url:
                return False
            try:
                target, options = engine_options(Secret(url))
            except SettingsError:
                return False  # what is kept there now is no address: the refusal stays
            self._url = url
            self._arguments = {**dialect.create_connect_args(target)[1], **options["connect_args"]}
            return True


def prepare_sqlite(connection: Any, _: object) -> None:
    """Make a file that several processes share: readers do not wait for the writer."""
    _write_ahead(connection, time.monotonic() + BUSY_SECONDS)
    connection.execute("PRAGMA synchronous=NORMAL")


def _write_ahead(connection: Any, until: float) -> None:
    """Switch a new file to its write-ahead log: beside a writer SQLite refuses that at once, whatever its time-out."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except connection.OperationalError as error:
            if error.sqlite_errorcode != SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(BUSY_PAUSE_SECONDS)


def _drop_idle(engine: Engine, wall_clock: Callable[[], float]) -> None:
    def note_use(_: object, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = wall_clock()

    def drop_if_idle(_: object, record: ConnectionPoolEntry, __: object) -> None:
        used_at = record.info.get("used_at")
        if used_at is not None and not 0 <= wall_clock() - used_at <= IDLE_SECONDS:
            raise DisconnectionError("idle for too long")

    event.listen(engine, "checkin", note_use)
    event.listen(engine, "checkout", drop_if_idle)
