"""Beside the streams: a few times a second one round trip to Redis for all answers of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

from chat.adapters.redis.connection import Command, RedisUnavailable, Replies
from chat.adapters.redis.servers import CommandClient

FLUSH_SECONDS = 0.05
"""The pause between two round trips, and so the most that a killed process leaves out of the log."""

SLICE = 16
"""How many members are served in one go."""

_FAILED = "a participant of the flush failed"  # all the others live on it

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FlushParticipant(Protocol):
    """Takes part in each flush: names its commands, and takes their replies."""

    def pending_commands(self, now: float) -> Sequence[Command]:
        """Return the commands that are due at `now`, in the event loop's seconds; mostly none."""
        ...

    def on_replies(self, replies: Sequence[Any]) -> None:
        """Take the replies to the commands last returned by `pending_commands`."""
        ...


class FlushLoop:
    """Runs only while it has participants, so that nothing outlives an invocation."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client
        self._members: dict[FlushParticipant, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def join(self, member: FlushParticipant) -> None:
        """Let `member` take part."""
        self._members[member] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def drop(self, member: FlushParticipant) -> None:
        """Ask `member` no more; with the last one the loop ends, soon."""
        self._members.pop(member, None)
        if not self._members and self._task is not None:
            self._task.cancel()
            self._ending, self._task = self._task, None

    async def leave(self, member: FlushParticipant) -> None:
        """Let `member` go; if the loop ends with it, wait for that."""
        self.drop(member)
        if self._ending is not None:
            await asyncio.wait([self._ending])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._client.is_unavailable:
                continue
            asked: list[tuple[FlushParticipant, Sequence[Command]]] = []
            for some in batched(list(self._members), SLICE):
                asked += [(member, due) for member in some if (due := self._ask(member, loop.time()))]
                await asyncio.sleep(0)
            # Who has left meanwhile has sent its last itself.
            asked = [(member, due) for member, due in asked if member in self._members]
            if not asked:
                continue
            try:
                replies = iter(await self._client.run(*[command for _, due in asked for command in due]))
            except RedisUnavailable:
                continue
            for those in batched(asked, SLICE):
                for member, due in those:
                    self._tell(member, list(islice(replies, len(due))))
                await asyncio.sleep(0)

    def _ask(self, member: FlushParticipant, now: float) -> Sequence[Command]:
        try:
            return member.pending_commands(now) if member in self._members else ()
        except Exception:
            logger.exception(_FAILED)
            return ()

    def _tell(self, member: FlushParticipant, replies: Replies) -> None:
        try:
            if member in self._members:
                member.on_replies(replies)
        except Exception:
            logger.exception(_FAILED)


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut `items` into parts, so that other streams go on between two: a flush of hundreds takes milliseconds."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
