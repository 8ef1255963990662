"""One connection for all that a process asks of Redis: what comes while a round trip is under way shares the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from chat.adapters.redis.connection import (
    IDLE_SECONDS,
    UNAVAILABLE,
    Command,
    ConnectionFactory,
    RedisUnavailable,
    Replies,
)

TRIP_SECONDS = 0.5
"""The longest that one round trip may take, connecting included, while this process runs."""
LOOKS = 5
"""In how many parts that is counted: however long the process was paused, it counts as one."""
PAUSE_SECONDS = 1.0
"""After a failure nothing is tried for this long, so that an outage costs an answer one wait at its start and one at
its end."""


class PipelinedClient:
    """Sends commands in the order of their arrival and pairs them with their replies.

    Commands must be safe to repeat: when a connection that had been used before fails, the batch is sent once more on a
    new one.
    """

    def __init__(self, new_connection: ConnectionFactory, on_unavailable: Callable[[], None] = lambda: None) -> None:
        self.trip_seconds = TRIP_SECONDS
        self._connection = new_connection()
        self._on_unavailable = on_unavailable
        self._waiting: list[tuple[Sequence[Command], asyncio.Future[Replies]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._unavailable_until = 0.0

    @property
    def is_unavailable(self) -> bool:
        """Whether the last attempt failed and the next is not due yet."""
        return time.monotonic() < self._unavailable_until

    async def run(self, *commands: Command) -> Replies:
        """Send `commands` in one go and return a reply for each; a refused command's reply is its `ResponseError`.

        Raises:
            RedisUnavailable: no answer within the limit; any of the commands may have been executed.
        """
        if self.is_unavailable:
            raise RedisUnavailable("Redis did not answer a moment ago")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Replies] = loop.create_future()
        self._waiting.append((commands, future))
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush())
        return await future

    async def close(self) -> None:
        """Close the connection; callers that still wait are told that Redis is unavailable."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        self._connection.disconnect()

    async def _flush(self) -> None:
        batch = self._waiting
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                replies = await self._trip([command for commands, _ in batch for command in commands])
                for commands, future in batch:
                    mine, replies = replies[: len(commands)], replies[len(commands) :]
                    if not future.done():
                        future.set_result(mine)
        except UNAVAILABLE as error:
            self._unavailable_until = time.monotonic() + PAUSE_SECONDS
            self._on_unavailable()
            self._refuse(batch + self._waiting, error)
        finally:
            self._flusher = None
            self._refuse(batch + self._waiting, None)

    def _refuse(
        self, batch: Sequence[tuple[Sequence[Command], asyncio.Future[Replies]]], cause: BaseException | None
    ) -> None:
        for _, future in batch:
            if not future.done():
                error = RedisUnavailable(f"Redis does not answer: {type(cause).__name__}")
                error.__cause__ = cause
                future.set_exception(error)
        self._waiting = []

    async def _trip(self, commands: Sequence[Command]) -> Replies:
        was_used = self._connection.is_connected
        if was_used and time.time() - self._used_at > IDLE_SECONDS:
            self._connection.disconnect()
            was_used = False
        try:
            async with StallTolerantTimeout(self.trip_seconds):
                try:
                    replies = await self._exchange(commands)
                except UNAVAILABLE:
                    if not was_used:
                        raise
                    self._connection.disconnect()
                    replies = await self._exchange(commands)
        except BaseException:
            # Whatever it was, even cancellation: the next reply on this connection would answer another question.
            self._connection.disconnect()
            raise
        self._used_at = time.time()
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> Replies:
        if not self._connection.is_connected:
            await self._connection.connect()
        return await self._connection.exchange(commands)


class StallTolerantTimeout:
    """A time-out that a process without CPU does not take for a server without an answer.

    A single timer would be due together with a reply that had long been there, and would win.
    """

    def __init__(self, seconds: float) -> None:
        self._part = seconds / LOOKS
        self._looks = LOOKS
        self._scope = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> None:
        self._timer = self._loop.call_later(self._part, self._look)
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _look(self) -> None:
        self._looks -= 1
        if self._looks:
            self._timer = self._loop.call_later(self._part, self._look)
        else:
            self._scope.reschedule(0)
