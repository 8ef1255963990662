"""A lean transport for httpx: HTTP/1.1 over TCP or TLS with connections kept for reuse. docs/adr/0002-ai-transport.md.

Of httpx's time-outs it honours `connect`; how long silence may last is the client's to judge. No HTTP/2, no proxies. It
opens as many connections as there are requests under way, so the caller bounds them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import httpx
from aiohappyeyeballs import start_connection

from chat.adapters.llm.connection import Connection

IDLE_SECONDS = 4.0
"""How long a connection may lie unused. Servers close theirs after 5 s at the earliest; and a process that was frozen
meanwhile wakes with connections that are dead without saying so."""
HEAD_START_SECONDS = 0.25
"""How long an address is tried alone before the next is tried beside it. Source: RFC 8305, section 8."""
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where connections lead."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of `url`.

        Raises:
            httpx.UnsupportedProtocol: it is neither http nor https.
        """
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme!r} is neither http nor https")
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])


class LeanTransport(httpx.AsyncBaseTransport):
    """Belongs to one event loop. Closing it closes every connection, also those in use.

    `now` is the wall clock in seconds: a monotonic clock may stand still while the process is frozen.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None = None,
        idle_seconds: float = IDLE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ssl_context = ssl_context
        self._idle_seconds = idle_seconds
        self._now = now
        self._all: set[Connection] = set()
        self._idle: defaultdict[Origin, list[_Idle]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        origin = Origin.of(request.url)
        message = await _encode(request)
        connection = self._take_idle(origin) or await self._connect(origin, _connect_seconds(request))
        try:
            connection.send(message)
            status, reason, headers = await connection.head()
        except BaseException:
            self._drop(connection)
            raise
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": reason}
        body = _Body(connection, lambda: self._release(origin, connection))
        return httpx.Response(status, headers=headers, stream=body, extensions=extensions)

    async def warm(self, url: httpx.URL | str, count: int = 1, timeout_seconds: float = 5.0) -> int:
        """Open connections for later requests and return how many there are; a failure is no error."""
        origin = Origin.of(httpx.URL(url))
        tasks = [self._connect(origin, timeout_seconds) for _ in range(count)]
        opened = await asyncio.gather(*tasks, return_exceptions=True)
        connections = [connection for connection in opened if isinstance(connection, Connection)]
        for connection in connections:
            self._release(origin, connection)
        return len(connections)

    async def aclose(self) -> None:
        for connection in list(self._all):
            self._drop(connection)
        for idle in self._idle.values():
            for entry in idle:
                entry.expiry.cancel()
        self._idle.clear()

    def _take_idle(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, and drop those that may be dead."""
        idle = self._idle[origin]
        while idle:
            entry = idle.pop()
            entry.expiry.cancel()
            is_fresh = abs(self._now() - entry.since) <= self._idle_seconds
            if is_fresh and entry.connection.is_idle and not entry.connection.has_input:
                return entry.connection
            self._drop(entry.connection)
        return None

    async def _connect(self, origin: Origin, timeout_seconds: float | None) -> Connection:
        tls = self._tls() if origin.scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_seconds):
                loop = asyncio.get_running_loop()
                addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
                connected = await start_connection(
                    addresses, happy_eyeballs_delay=HEAD_START_SECONDS, interleave=1, loop=loop
                )
                _, connection = await loop.create_connection(
                    Connection, sock=connected, ssl=tls, server_hostname=origin.host if tls else None
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {timeout_seconds:g} s") from error
        except (OSError, UnicodeError) as error:  # ssl.SSLError is one; a name that cannot be one is the other
            raise httpx.ConnectError(f"no connection: {type(error).__name__}") from error
        self._all.add(connection)
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context

    def _release(self, origin: Origin, connection: Connection) -> None:
        """Keep the connection if it can be used again, else close it at once."""
        if not connection.is_idle:
            self._drop(connection)
            return
        expiry = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, origin, connection)
        self._idle[origin].append(_Idle(connection, self._now(), expiry))

    def _expire(self, origin: Origin, connection: Connection) -> None:
        self._idle[origin] = [entry for entry in self._idle[origin] if entry.connection is not connection]
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        self._all.discard(connection)


class _Idle(NamedTuple):
    connection: Connection
    since: float
    expiry: asyncio.TimerHandle


class _Body(httpx.AsyncByteStream):
    """A response's body. Closing it before its end closes the connection."""

    def __init__(self, connection: Connection, release: Callable[[], None]) -> None:
        self._connection = connection
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        data = await self._connection.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


async def _encode(request: httpx.Request) -> bytes:
    """Return the request as it goes over the wire, its body with a known length. Source: RFC 9112, section 3.

    Raises:
        httpx.LocalProtocolError: a header would not stay one header.
    """
    body = await request.aread()
    lines = [request.method.encode("ascii") + b" " + request.url.raw_path + b" HTTP/1.1"]
    for name, value in request.headers.raw:
        if any(mark in name + value for mark in (b"\r", b"\n", b"\0")):
            raise httpx.LocalProtocolError("a request header holds a line end")
        if name.lower() not in (b"transfer-encoding", b"content-length"):
            lines.append(name + b": " + value)
    lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def _connect_seconds(request: httpx.Request) -> float | None:
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get("connect")
