"""Polling: one slot's connection, kept alive between invocations and opened anew when it is found dead."""

from __future__ import annotations

import asyncio

from lambda_stream._connection import Connection
from lambda_stream._errors import Disconnected, FatalRuntimeError, RuntimeApiError
from lambda_stream._http11 import Head
from lambda_stream._invocation import Invocation, read_invocation
from lambda_stream._log import logger
from lambda_stream._runtime_api import RuntimeApi


class InvocationPoller:
    """Hands out one invocation after the other."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._connection: Connection | None = None
        self._failures = 0

    async def head(self) -> Head:
        """Poll, for as long as it takes, and return the head of the answer.

        No time limit: the execution environment may be frozen meanwhile. A connection that ends without a byte has
        handed nothing out, so the poll is sent again. Until the first byte is here, cancelling loses nothing.

        Raises:
            Unusable: it failed too often in a row.
        """
        while True:
            try:
                connection = await self._alive()
                connection.write(self._api.next_request())
                head = await connection.head()
            except RuntimeApiError as error:
                await self._failed(error)
                continue
            return head

    async def invocation(self, head: Head) -> Invocation | None:
        """Read the rest of the answer; None when it was none, or an unusable one, and the poll is to be repeated.

        While an invocation is unanswered the Runtime API hands the same one out again.

        Raises:
            Unusable: the Runtime API says that this process should end, or failed too often in a row.
        """
        try:
            invocation = await self._read(head)
        except RuntimeApiError as error:
            await self._failed(error)
            return None
        self._failures = 0
        return invocation

    async def _read(self, head: Head) -> Invocation:
        assert self._connection is not None  # noqa: S101  # head() has opened it
        body = await self._connection.body(head)
        if head.closes:
            self.close()
        if head.status != 200:
            raise RuntimeApiError(f"the Runtime API answered a poll with {head.status}")
        return read_invocation(head.headers, body)

    async def _failed(self, error: RuntimeApiError) -> None:
        """Drop the connection; wait longer each time, but not the first: an idle connection may just have died."""
        self.close()
        self._failures += 1
        if self._failures > self._api.timeouts.max_poll_failures:
            raise FatalRuntimeError(f"polling failed {self._failures} times in a row: {error}") from error
        if self._failures > 1 or not isinstance(error, Disconnected):
            logger.warning(f"polling failed, trying again: {error}")
            await asyncio.sleep(0.05 * 2**self._failures)

    async def _alive(self) -> Connection:
        if self._connection is not None and self._connection.is_dead:
            self.close()
        if self._connection is None:
            self._connection = await self._api.connect()
        return self._connection

    def close(self) -> None:
        """Close the connection; the next poll opens another."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
