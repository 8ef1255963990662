"""One connection to a Redis or Valkey server, on redis-py: many commands out in one write, their replies in one wait.

redis-py's `Connection` connects, encrypts, logs in, packs commands and parses replies. Its pools, retries and time-outs
are not used: whoever waits for a reply bounds the wait. docs/adr/0009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from redis.asyncio.connection import Connection, DefaultParser, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as ClosedError,
)

Command: TypeAlias = tuple[str | bytes | int | float, ...]
Replies: TypeAlias = list[Any]

IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process cannot tell a half-open socket from a
living one without waiting for it."""


MAX_REPLY_BYTES = 64 << 20
"""More than any log or final record of ours takes: whoever sends a longer reply is not answering us."""


class ConnectionLost(Exception):
    """The connection is of no use: it was refused, ended, or does not speak the protocol."""


UNAVAILABLE = (ConnectionLost, OSError, TimeoutError)
"""Raised by a connection when the server refuses, fails or keeps silent; includes a refused login."""


class RedisUnavailable(Exception):
    """Redis did not answer in time, or at all."""


class Channel(Protocol):
    """What of redis-py's connection is used here, and what is added to it."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def read_response(self, disable_decoding: bool = ..., *, disconnect_on_error: bool = ...) -> Any: ...

    def write(self, commands: Iterable[Command]) -> None: ...

    def bound(self, max_reply_bytes: int) -> None: ...

    def abort(self) -> None: ...


class BoundedParser(DefaultParser):  # type: ignore[misc, valid-type]  # chosen when redis is imported
    """Reads replies with hiredis, and gives up one that is longer than it may be."""

    max_reply_bytes = MAX_REPLY_BYTES
    _received = 0

    async def read_response(self, *args: Any, **options: Any) -> Any:
        self._received = 0
        return await super().read_response(*args, **options)

    async def read_from_socket(self) -> bool:
        data = await self._stream.read(self._read_size)
        if not data:
            raise ClosedError("closed by the server")
        self._received += len(data)
        if self._received > self.max_reply_bytes + self._read_size:
            raise ClosedError("a reply that is too long")
        self._reader.feed(data)
        return True


class WritesAtOnce:
    """Adds to redis-py's connections what needs no turn of the event loop: to write, and to close without waiting."""

    _reader: Any
    _writer: Any
    _parser: Any

    @property
    def is_connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._writer is not None and self._reader is not None and not self._reader.at_eof()

    def write(self, commands: Iterable[Command]) -> None:
        """Write commands without waiting for room: a flush is small, and its reply is waited for."""
        self._writer.writelines(self.pack_commands(commands))  # type: ignore[attr-defined]

    def bound(self, max_reply_bytes: int) -> None:
        """Accept no reply that is longer."""
        self._parser.max_reply_bytes = max_reply_bytes

    def abort(self) -> None:
        """Close at once."""
        writer, self._writer, self._reader = self._writer, None, None
        self._parser.on_disconnect()
        if writer is not None:
            writer.transport.abort()


class TcpChannel(WritesAtOnce, Connection):
    """A TCP connection."""


class TlsChannel(WritesAtOnce, SSLConnection):
    """A TLS connection."""


class UnixChannel(WritesAtOnce, UnixDomainSocketConnection):
    """A connection over a Unix socket."""


class Endpoint(Protocol):
    """Where to connect and as whom."""

    async def channel(self) -> Channel:
        """Return a new unconnected channel.

        Raises:
            UNAVAILABLE: it is not known where to connect.
        """
        ...

    def refused(self) -> None:
        """Hear that the server refused the login."""
        ...


class RedisConnection:
    """Opened by `connect`, and again after `disconnect`. One task at a time waits for replies."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: Channel | None = None
        self.max_reply_bytes = MAX_REPLY_BYTES

    @property
    def is_connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._channel is not None and self._channel.is_connected

    async def connect(self) -> None:
        """Open it, log in and choose the database: no round trip where neither is asked for.

        Raises:
            UNAVAILABLE: it cannot be had; a refused login is remembered.
        """
        self.disconnect()
        channel = self._channel = await self._endpoint.channel()
        channel.bound(self.max_reply_bytes)
        try:
            await channel.connect()
        except BaseException as error:
            self.disconnect()
            if isinstance(error, AuthenticationError):
                self._endpoint.refused()
                raise ConnectionLost("the server refused the login") from error
            if isinstance(error, RedisError):
                raise ConnectionLost(f"it cannot be opened: {type(error).__name__}") from error
            raise

    def disconnect(self) -> None:
        """Close it at once."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()

    def send(self, *commands: Command) -> None:
        """Send commands whose replies somebody reads.

        Raises:
            ConnectionLost: it is closed.
        """
        self._open_channel().write(commands)

    async def exchange(self, commands: Sequence[Command]) -> Replies:
        """Send commands and return a reply for each, a `ResponseError` among them where one was refused.

        Raises:
            ConnectionLost: the connection ended, or the server serves nobody now.
        """
        self.send(*commands)
        replies = await self.read(len(commands))
        for reply in replies:
            if isinstance(reply, ReadOnlyError | MasterDownError):  # a demoted master: another one has taken over
                raise ConnectionLost(f"the server does not serve: {type(reply).__name__}")
        return replies

    async def read(self, count: int) -> Replies:
        """Wait for the next replies.

        Raises:
            ConnectionLost: the connection ended before they came, or the server serves nobody now.
        """
        replies: Replies = []
        while len(replies) < count:
            channel = self._open_channel()
            try:
                reply = await channel.read_response(disconnect_on_error=False)
            except ResponseError as error:
                reply = error
            except InvalidResponse as error:
                self.disconnect()
                raise ConnectionLost("this is no Redis") from error
            except (RedisError, OSError) as error:
                self.disconnect()
                raise ConnectionLost(f"the connection ended: {type(error).__name__}") from error
            replies.append(reply)
        return replies

    def _open_channel(self) -> Channel:
        if self._channel is None or not self._channel.is_connected:
            raise ConnectionLost("the connection is closed")
        return self._channel


ConnectionFactory: TypeAlias = Callable[[], RedisConnection]
"""Makes an unconnected connection."""
