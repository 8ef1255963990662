"""One response on its way to the Runtime API, on a connection of its own: prelude, chunks, end, answer.

Every wait is bounded. A response is either ended properly or known not to be; see `settle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lambda_stream._connection import Connection
from lambda_stream._errors import ResponseClosed, RuntimeApiError
from lambda_stream._http11 import LAST_CHUNK, Head, chunk, last_chunk
from lambda_stream._invocation import Invocation
from lambda_stream._runtime_api import RuntimeApi

_BUFFER_BYTES = 64 * 1024
OPEN_AFTER_SECONDS = 0.001
"""Connecting holds the event loop up for a quarter of a millisecond: first the application asks others for what it
needs, and the connection is opened while it waits for them."""


class ResponseStream:
    """Opens its connection while the application is still at work, and takes one write per chunk."""

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self._timeouts = api.timeouts
        self._head = api.response_head(invocation)
        self._needed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opening = asyncio.create_task(self._open(api))
        self._connection: Connection | None = None
        self._reply: asyncio.Task[Head] | None = None
        self._problem: Exception | None = None
        self._is_finished = False
        self._waiting = 0

    @property
    def is_started(self) -> bool:
        return self._connection is not None

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be written any more although the response has not ended."""
        return self._problem is not None or (self._reply is not None and self._reply.done())

    async def connect(self) -> Connection:
        """Wait for the connection; afterwards `start` does not wait.

        Raises:
            ResponseClosed: the Runtime API cannot be reached.
        """
        if not self._needed.done():
            self._needed.set_result(None)
        try:
            return await asyncio.shield(self._opening)
        except RuntimeApiError as error:
            self._problem = error
            raise ResponseClosed(str(error)) from error

    async def start(self, prelude: bytes) -> None:
        """Begin the response: its head, and the prelude as a chunk of its own, at once.

        Raises:
            ResponseClosed: the Runtime API cannot be reached.
        """
        connection = await self.connect()
        connection.limit_buffer(_BUFFER_BYTES)
        connection.write(self._head + chunk(prelude))
        self._connection = connection
        self._reply = asyncio.create_task(connection.head())

    async def write(self, data: bytes) -> None:
        """Wait until there is room, then write non-empty data as one chunk. If cancelled, it has written nothing.

        Raises:
            ResponseClosed: the connection is lost, has stalled for too long, or was answered already; or the response
                was ended meanwhile.
        """
        connection = self._writable()
        if connection.buffered_bytes > _BUFFER_BYTES:
            self._waiting += 1
            try:
                await self._drain(connection, self._timeouts.send_stall)
            finally:
                self._waiting -= 1
            connection = self._writable()
        connection.write(chunk(data))

    def write_now(self, data: bytes) -> bool:
        """Write non-empty data as one chunk if `write` would not wait or raise, and tell whether it was written."""
        connection = self._connection
        if connection is None or self.is_broken or self._is_finished:
            return False
        if self._waiting or connection.buffered_bytes > _BUFFER_BYTES:  # nothing overtakes what waits
            return False
        connection.write(chunk(data))
        return True

    def finish(self, trailers: Mapping[str, str] | None = None) -> None:
        """End the body, with trailers if something went wrong after it had begun.

        Raises:
            ResponseClosed: as `write`.
        """
        self._writable().write(last_chunk(trailers) if trailers else LAST_CHUNK)
        self._is_finished = True

    async def settle(self) -> int:
        """Wait until everything is taken and answered; return the status.

        Raises:
            ResponseClosed: the Runtime API did not take it all, or did not answer, within the limits.
        """
        if self._connection is None or self._reply is None:
            raise ResponseClosed("no response was begun")
        try:
            if not self._reply.done() and self._problem is None:
                self._connection.limit_buffer(0)
                await self._drain(self._connection, self._timeouts.stall)
            async with asyncio.timeout(0 if self._problem else self._timeouts.reply):
                return (await self._reply).status
        except (RuntimeApiError, TimeoutError) as error:
            raise ResponseClosed(f"the response was not accepted: {self._problem or error or 'no answer'}") from error

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        for task in (self._opening, self._reply):
            if task is not None and not task.done():
                task.cancel()
            elif task is not None and not task.cancelled():
                task.exception()  # seen
        if self._opening.done() and not self._opening.cancelled() and self._opening.exception() is None:
            self._opening.result().abort()

    async def _open(self, api: RuntimeApi) -> Connection:
        await asyncio.wait([self._needed], timeout=OPEN_AFTER_SECONDS)
        return await api.connect()

    def _writable(self) -> Connection:
        if self._connection is None or self.is_broken:
            raise ResponseClosed(f"the response is closed: {self._problem or 'answered before its end'}")
        if self._is_finished:
            raise ResponseClosed("the response has ended")
        return self._connection

    async def _drain(self, connection: Connection, stall_seconds: float) -> None:
        """Wait for room in the buffer; give up only when nothing at all is taken for `stall_seconds`."""
        while True:
            before = connection.buffered_bytes
            try:
                async with asyncio.timeout(stall_seconds):
                    return await connection.drain()
            except TimeoutError:
                if connection.buffered_bytes >= before:
                    self._problem = ResponseClosed(f"nothing was taken for {stall_seconds:g} s")
                    raise self._problem from None
            except OSError as error:
                self._problem = error
                raise ResponseClosed("the connection to the Runtime API broke") from error
