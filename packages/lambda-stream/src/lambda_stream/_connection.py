"""Connections to the Runtime API: opening them, one request and its answer, closing them without waiting."""

from __future__ import annotations

import asyncio
from types import TracebackType

from lambda_stream._errors import Disconnected, RuntimeApiError
from lambda_stream._http11 import Head, read_body, read_head

_READ_LIMIT_BYTES = 1 << 20


class Connection:
    """One connection. asyncio sets TCP_NODELAY on it, so that no write waits for an acknowledgement."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, timeout_seconds: float) -> Connection:
        """Connect.

        Raises:
            Disconnected: nobody listens there, or not in time.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return cls(*await asyncio.open_connection(host, port, limit=_READ_LIMIT_BYTES))
        except OSError as error:  # TimeoutError is one
            raise Disconnected(f"no connection to the Runtime API at {host}:{port}") from error

    @property
    def is_dead(self) -> bool:
        """Whether the other side is known to have closed it."""
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    @property
    def buffered_bytes(self) -> int:
        """What was written but not yet taken by the operating system."""
        return self._writer.transport.get_write_buffer_size()

    def limit_buffer(self, most_bytes: int) -> None:
        """Let `drain` wait whenever more than this is buffered."""
        self._writer.transport.set_write_buffer_limits(most_bytes)

    def write(self, data: bytes) -> None:
        """Hand data to the operating system, or buffer it; never waits."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until no more than the limit is buffered.

        Raises:
            OSError: the connection is lost.
        """
        await self._writer.drain()

    async def head(self) -> Head:
        """Wait for the head of the next response.

        Raises:
            Disconnected: the connection ended before a byte of it had come.
            RuntimeApiError: what came is cut off or no HTTP.
        """
        try:
            return await read_head(self._reader)
        except OSError as error:
            raise Disconnected("the connection to the Runtime API broke") from error

    async def body(self, head: Head) -> bytes:
        """Read the body that follows `head`.

        Raises:
            RuntimeApiError: it is cut off or no HTTP.
        """
        try:
            return await read_body(self._reader, head)
        except OSError as error:
            raise RuntimeApiError("the connection to the Runtime API broke within a response") from error

    def close(self) -> None:
        """Close once what is buffered has been written."""
        self._writer.close()

    def abort(self) -> None:
        """Close at once, dropping what is buffered."""
        self._writer.transport.abort()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
