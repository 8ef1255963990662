"""One connection for all that a process asks of Redis: what comes while a round trip is under way shares the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from chat.adapters.redis.connection import AWAY, IDLE_SECONDS, Command, Open, RedisAway, Replies

TRIP_SECONDS = 0.5
"""The longest that one round trip may take, connecting included, while this process runs."""
LOOKS = 5
"""In how many parts that is counted: a process that stood still, for how long soever, counts one."""
PAUSE_SECONDS = 1.0
"""After a failure nothing is tried for this long, so that an outage costs an answer one wait at its start and one at
its end."""


class Pipe:
    """Sends commands in the order of their arrival and pairs them with their replies.

    Commands must be safe to repeat: when a connection that had been used before fails, the batch is sent once more on a
    new one.
    """

    def __init__(self, open_connection: Open, on_away: Callable[[], None] = lambda: None) -> None:
        self.trip_seconds = TRIP_SECONDS
        self._connection = open_connection()
        self._on_away = on_away
        self._waiting: list[tuple[Sequence[Command], asyncio.Future[Replies]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._away_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the last attempt failed and the next is not due yet."""
        return time.monotonic() < self._away_until

    async def run(self, *commands: Command) -> Replies:
        """Send `commands` in one go and return a reply for each; a refused command's reply is its `Refusal`.

        Raises:
            RedisAway: no answer within the limit; any of the commands may have been executed.
        """
        if self.is_away:
            raise RedisAway("Redis was away a moment ago")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Replies] = loop.create_future()
        self._waiting.append((commands, future))
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush())
        return await future

    async def close(self) -> None:
        """Close the connection; callers that still wait are told that Redis is away."""
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
        except AWAY as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            self._on_away()
            self._refuse(batch + self._waiting, error)
        finally:
            self._flusher = None
            self._refuse(batch + self._waiting, None)

    def _refuse(
        self, batch: Sequence[tuple[Sequence[Command], asyncio.Future[Replies]]], cause: BaseException | None
    ) -> None:
        for _, future in batch:
            if not future.done():
                away = RedisAway(f"Redis is away: {type(cause).__name__}")
                away.__cause__ = cause
                future.set_exception(away)
        self._waiting = []

    async def _trip(self, commands: Sequence[Command]) -> Replies:
        was_used = self._connection.is_connected
        if was_used and time.time() - self._used_at > IDLE_SECONDS:
            self._connection.disconnect()
            was_used = False
        try:
            async with _Patience(self.trip_seconds):
                try:
                    replies = await self._exchange(commands)
                except AWAY:
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


class _Patience:
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
