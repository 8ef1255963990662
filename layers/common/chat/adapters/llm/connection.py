"""One HTTP/1.1 connection on asyncio and httptools: a request out, a response in, as bytes arrive, nothing in between.

Knows nothing of pools, addresses or retries. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import select
from typing import cast

import httptools
import httpx

MAX_HEAD_BYTES = 64 << 10
"""How long status line and headers of a response may be, and later what carries no body: chunk extensions, trailers."""
PIECE_BYTES = 64
"""What an object and its place in a list cost for each piece of body that is kept, however short."""
_HIGH_BYTES = 256 << 10
"""Cost of unread body at which reading from the socket pauses; it goes on when all has been taken."""

Headers = list[tuple[bytes, bytes]]


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. Errors are httpx's."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_idle = True
        """The last response has come whole and the connection may carry another request."""
        self._socket: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._error: tuple[type[httpx.TransportError], str] | None = None
        """Raised anew each time: an error that is kept keeps the frames that it passed, and they keep this."""
        self._clear()

    def _clear(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # RFC 9112, section 7.1.1 allows white space before a chunk extension; some servers pad the size itself.
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._status = 0
        self._reason = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._bodiless_bytes = 0
        """How much has come since the last piece of body."""
        self._parts: list[bytes] = []
        self._buffered = 0
        self._is_paused = False
        self._has_head = False
        self._is_whole = False
        self._ends_by_close = False

    # What its owner calls.

    def send(self, request: bytes) -> None:
        """Begin an exchange."""
        self._clear()
        self.is_idle = False
        self._socket.write(request)

    async def head(self) -> tuple[int, bytes, Headers]:
        """Wait for the head of the response: status, reason phrase, headers.

        Raises:
            httpx.RemoteProtocolError: what came is no HTTP, or the connection ended before it came.
            httpx.ReadError: the connection broke.
        """
        while not self._has_head:
            await self._more()
        return self._status, self._reason, self._headers

    async def read(self) -> bytes:
        """Return all of the body that has come and was not read yet, waiting if there is none; empty at its end.

        Raises:
            httpx.RemoteProtocolError, httpx.ReadError: the body ended early; what had come was returned before.
        """
        while not self._parts:
            if self._is_whole:
                return b""
            await self._more()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._buffered = 0
        if self._is_paused:
            self._is_paused = False
            self._socket.resume_reading()
        return data

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.is_idle = False
        if self.is_open:
            self.is_open = False
            self._socket.abort()

    @property
    def has_input(self) -> bool:
        """Whether the socket is readable, which on an idle connection means that the other side has closed it."""
        poll = select.poll()
        poll.register(self._socket.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def _more(self) -> None:
        if self._error is not None:
            kind, message = self._error
            raise kind(message)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, message: str) -> None:
        self._error = self._error or (httpx.RemoteProtocolError, message)
        self.abort()
        self._wake()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self.is_idle or self._is_whole:  # nobody asked
            self.abort()
            return
        if not self._has_head:
            self._head_bytes += len(data)
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # its message may hold bytes of the response
            self._break("the response is not HTTP/1.1")
        else:
            if not self._has_head and self._head_bytes > MAX_HEAD_BYTES:
                self._break("the response's head is too long")
            elif self._bodiless_bytes > MAX_HEAD_BYTES:
                self._break("the response has too much beside its body")
        if self._buffered > _HIGH_BYTES and not self._is_paused and self.is_open:
            self._is_paused = True
            self._socket.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = self.is_idle = False
        del self._parser  # it holds this
        if self._has_head and self._ends_by_close and exc is None:
            self._is_whole = True
        elif exc is not None:
            self._error = self._error or (httpx.ReadError, type(exc).__name__)
        else:
            where = "within a response" if self._head_bytes else "without a response"
            self._error = self._error or (httpx.RemoteProtocolError, f"the connection ended {where}")
        self._wake()

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self._is_whole:
            self.abort()

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # later ones are trailers
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 200 or self._is_whole:
            return
        framing = {name.lower() for name, _ in self._headers}
        self._ends_by_close = not framing & {b"content-length", b"transfer-encoding"}
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        if not self._is_whole:
            self._parts.append(data)
            self._buffered += len(data) + PIECE_BYTES
            self._bodiless_bytes = 0

    def on_message_complete(self) -> None:
        if not self._has_head:  # an interim response
            self._headers, self._reason = [], b""
            return
        self._is_whole = True
        self.is_idle = self.is_open and self._parser.should_keep_alive()
