"""Between an answer and its client: a bounded buffer, comments while nothing is said, and an end to patience."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from chat.answer import Event
from chat.web.sse import COMMENT, frame

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BUFFER_BYTES = 1 << 20
"""A client that leaves more than this unread has left."""
PATIENCE_SECONDS = 10.0
"""So has one that reads nothing for this long while something waits for it."""


class Outlet:
    """Takes events without ever blocking and sends them as fast as the client reads.

    A client that stops reading, or whose connection fails, is given up: from then on events are taken and dropped.
    """

    def __init__(self, message_id: str, heartbeat_seconds: float, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._message_id = message_id
        self._heartbeat_seconds = heartbeat_seconds
        self._patience_seconds = patience_seconds
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._wakeup: asyncio.Future[None] | None = None
        self.is_abandoned = False

    def put(self, events: Sequence[Event], with_ids: bool = True) -> None:
        """Take `events` for the client."""
        if self.is_abandoned or not events:
            return
        data = frame(events, self._message_id, with_ids)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES:
            self._abandon()
        self._wake()

    def close(self) -> None:
        """Say that nothing more will come."""
        self._is_closed = True
        self._wake()

    async def pump(self, send: Send) -> None:
        """Send what comes until it is closed and empty, or the client is given up."""
        while not self.is_abandoned:
            if self._waiting:
                data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
                self._waiting, self._size = [], 0
            elif self._is_closed:
                return
            elif await self._is_quiet():
                data = COMMENT
            else:
                continue
            await self._send(send, data)

    async def _send(self, send: Send, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except (TimeoutError, OSError):
            self._abandon()

    async def _is_quiet(self) -> bool:
        """Wait for something to happen; True when for a heartbeat's time nothing did."""
        loop = asyncio.get_running_loop()
        wakeup = self._wakeup = loop.create_future()
        timer = loop.call_later(self._heartbeat_seconds, self._wake)
        try:
            await wakeup
        finally:
            timer.cancel()
            self._wakeup = None
        return not (self._waiting or self._is_closed or self.is_abandoned)

    def _abandon(self) -> None:
        self.is_abandoned = True
        self._waiting, self._size = [], 0

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
