"""Between an answer and its client: a bounded buffer, heartbeats, and a send timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from chat.domain.events import Event
from chat.http.sse import COMMENT, Encode

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Write = Callable[[bytes], bool]

BUFFER_BYTES = 1 << 20
"""A client that leaves more than this unread while it is being sent something has left."""
SEND_BYTES = 1 << 16
"""How much is sent at once: the time-out is for each such part, because a replay may be long."""
SEND_TIMEOUT_SECONDS = 10.0
"""So has one that reads nothing for this long while something waits for it."""


class SseWriter:
    """Takes events without ever blocking and sends them as fast as the client reads.

    An event that comes while nothing waits before it is written where it stands, if the server offers that; all others
    are queued for `run`, which can wait for the client.
    A client that stops reading, or whose connection fails, is given up: from then on events are taken and dropped.
    """

    def __init__(
        self, encode: Encode, heartbeat_seconds: float, send_timeout_seconds: float = SEND_TIMEOUT_SECONDS
    ) -> None:
        self._encode = encode
        self._heartbeat_seconds = heartbeat_seconds
        self._send_timeout_seconds = send_timeout_seconds
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._write: Write = _cannot
        self._wakeup: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._scope: asyncio.Timeout
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0
        """When what is under way, a send or a silence, will have taken too long."""
        self._is_sending = False
        self.client_gone = False

    def enqueue(self, events: Sequence[Event], with_ids: bool = True) -> None:
        """Take `events` for the client."""
        if self.client_gone or not events:
            return
        data = self._encode(events, with_ids)
        if self._is_idle and len(data) <= SEND_BYTES and self._write(data):
            self._ends_at = self._loop.time() + self._heartbeat_seconds
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES and self._is_sending:
            self._give_up()
        self._wake()

    def close(self) -> None:
        """Say that nothing more will come."""
        self._is_closed = True
        self._wake()

    @property
    def _is_idle(self) -> bool:
        """Whether `run` waits for something to send: then nothing is queued."""
        return self._wakeup is not None and not self._wakeup.done()

    async def run(self, send: Send, write: Write | None = None) -> None:
        """Send what comes until it is closed and empty, or the client is given up.

        `write`, where there is one, sends at once, or tells by False that it cannot and has sent nothing.
        """
        self._write = write or _cannot
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as self._scope:
                await self._run(send)
        except OSError:  # TimeoutError is one
            self._give_up()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _run(self, send: Send) -> None:
        while not self.client_gone:
            if self._waiting:
                data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
                self._waiting, self._size = [], 0
            elif self._is_closed:
                return
            elif await self._is_quiet():
                data = COMMENT
            else:
                continue
            for at in range(0, len(data), SEND_BYTES):
                if self.client_gone:
                    return
                self._expect(self._send_timeout_seconds, is_sending=True)
                await send({"type": "http.response.body", "body": data[at : at + SEND_BYTES], "more_body": True})

    async def _is_quiet(self) -> bool:
        """Wait for something to happen; True when for a heartbeat's time nothing did."""
        self._expect(self._heartbeat_seconds, is_sending=False)
        self._wakeup = self._loop.create_future()
        try:
            await self._wakeup
        finally:
            self._wakeup = None
        return not (self._waiting or self._is_closed or self.client_gone)

    def _expect(self, seconds: float, is_sending: bool) -> None:
        """Let what begins now take so long. One timer serves all that is expected: it is set anew when it strikes."""
        self._is_sending = is_sending
        self._ends_at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._ends_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._ends_at, self._strike)

    def _strike(self) -> None:
        self._timer = None
        if self._ends_at > self._loop.time():
            self._set_timer()
        elif self._is_sending:
            self._scope.reschedule(self._ends_at)
        else:
            self._wake()

    def _give_up(self) -> None:
        self.client_gone = True
        self._waiting, self._size = [], 0

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


def _cannot(_: bytes) -> bool:
    return False
