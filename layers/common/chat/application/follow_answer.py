"""Follow an answer: from the event log while it lasts, from MySQL otherwise, exact to the character."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from chat.application.admission import StreamPlace
from chat.application.deps import Deliver
from chat.application.ports import AnswerTelemetry, Chats, EventLog, LogPage, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.telemetry_events import FallbackTaken, LimitReached
from chat.domain.errors import RateLimited, StorageUnavailable
from chat.domain.events import EventName
from chat.domain.model import Status, StoredAnswer
from chat.domain.replay import growth, join, last_events, replay, restart

POLL_SECONDS = 0.1
SILENCE_SECONDS = 1.0
"""Silence of the log after which MySQL is asked whether the answer has ended."""
AWAY_SECONDS = 3.0
"""How long a follower waits for a log that is gone before it goes on from MySQL."""


@dataclass(frozen=True, slots=True)
class FollowRequest:
    """Which answer to follow, and from where; with nothing given the active one, from its start."""

    message_id: str | None = None
    user_message_id: str | None = None
    after: int | None = None
    """The number of the last event that the client has; only with `message_id`."""
    has_all: bool = False
    """The client has the answer's end: nothing is left to follow."""


@dataclass(frozen=True, slots=True)
class FollowAnswer:
    """Finds answers to follow, for any of the user's devices. Never starts a generation."""

    chats: Chats
    event_log: EventLog
    recover: OrphanRecovery
    rate_limiter: RateLimiter
    telemetry: AnswerTelemetry
    silence_seconds: float = SILENCE_SECONDS
    away_seconds: float = AWAY_SECONDS

    async def __call__(self, chat_id: str, user_id: str, session_id: str, wanted: FollowRequest) -> Following | None:
        """Return what to follow, to be closed in the end; None when there is nothing.

        Raises:
            ChatNotFound: unknown, or someone else's.
            RateLimited: the user has too many open streams.
            StorageUnavailable: MySQL is away.
        """
        await self.chats.require(chat_id, user_id)
        stored = await self._find(chat_id, session_id, wanted)
        if stored is None:
            return None
        try:
            stored = await self.recover(stored)
        except StorageUnavailable:
            self.telemetry.record(FallbackTaken("follow_blind", stored.identity.message_id))
        return await self.from_stored(stored, user_id, session_id, wanted.after)

    async def from_stored(
        self, stored: StoredAnswer, user_id: str, session_id: str, after: int | None = None
    ) -> Following:
        """Follow an answer that is already at hand; to be closed in the end.

        Raises:
            RateLimited: the user has too many open streams.
        """
        place = StreamPlace(self.rate_limiter, user_id)
        try:
            await place.open()
        except RateLimited as error:
            self.telemetry.record(LimitReached(stored.identity.chat_id, user_id, session_id, error.limit))
            raise
        return Following(self, stored, after, place)

    async def _find(self, chat_id: str, session_id: str, wanted: FollowRequest) -> StoredAnswer | None:
        if wanted.has_all:
            return None
        if wanted.message_id is not None:
            return await self.chats.find_answer(chat_id, wanted.message_id)
        if wanted.user_message_id is not None:
            return await self.chats.find_answer_to(chat_id, wanted.user_message_id)
        mine = await self.chats.find_active(chat_id, session_id)
        return mine or await self.chats.find_active(chat_id, None)


class Following:
    """One watcher of one answer, who holds a place among the user's streams until it is closed."""

    def __init__(self, deps: FollowAnswer, stored: StoredAnswer, after: int | None, place: StreamPlace) -> None:
        self._deps = deps
        self._place = place
        self._stored = stored
        self._is_resumed = after is not None
        self._position = after or 0
        self._deliver: Deliver = lambda events, with_ids: None

    @property
    def message_id(self) -> str:
        """The answer's id."""
        return self._stored.identity.message_id

    async def close(self) -> None:
        """Give the place back: the client has got everything, or has gone."""
        await self._place.close()

    async def run(self, deliver: Deliver) -> None:
        """Deliver from the wanted place to the end; returns after `done` was delivered."""
        self._deliver = deliver
        if not self._stored.is_active and not self._is_resumed:
            self._replay()
        elif not await self._follow_log():
            await self._follow_rows()

    async def _follow_log(self) -> bool:
        """Deliver from the log; False when it is gone and the answer is still running."""
        loop = asyncio.get_running_loop()
        there_at = asked_at = loop.time()
        while True:
            page = await self._read()
            if page is not None:
                there_at = loop.time()
            if page is not None and page.events:
                self._deliver(page.events, True)
                self._position += len(page.events)
                asked_at = loop.time()
                if page.ended:
                    return True
            elif not self._stored.is_active:
                await self._end()
                return True
            elif page is None and loop.time() - there_at > self._deps.away_seconds:
                return False
            elif loop.time() - asked_at > self._deps.silence_seconds:
                asked_at = loop.time()
                await self._ask()
                continue  # an end that was logged meanwhile is delivered from the log
            await asyncio.sleep(POLL_SECONDS)

    async def _follow_rows(self) -> None:
        """Deliver what the checkpoints hold, and the rest when the answer has ended; from `start`, without other ids.

        A checkpoint may come late, with less than the one before it: what has been delivered stays.
        """
        self._deps.telemetry.record(FallbackTaken("follow_from_mysql", self.message_id))
        text, reasoning = "", ""
        self._deliver([restart(self._stored)], True)
        while self._stored.is_active:
            self._deliver(growth(self._stored, text, reasoning), False)
            if self._stored.text.startswith(text):
                text = self._stored.text
            if self._stored.reasoning.startswith(reasoning):
                reasoning = self._stored.reasoning
            await asyncio.sleep(self._deps.silence_seconds)
            await self._ask()
        if self._stored.text.startswith(text) and self._stored.reasoning.startswith(reasoning):
            self._deliver(growth(self._stored, text, reasoning), False)
            self._deliver([event for event in replay(self._stored) if event.name == EventName.SOURCES], False)
            self._deliver(last_events(self._stored, 1), False)
        else:
            self._replay()

    async def _read(self) -> LogPage | None:
        identity = self._stored.identity
        try:
            return await self._deps.event_log.read(identity.chat_id, identity.message_id, self._position)
        except StorageUnavailable:
            return None

    async def _ask(self) -> None:
        """Look at MySQL, which says whether the answer has ended; keeps what is known while MySQL is away."""
        identity = self._stored.identity
        try:
            stored = await self._deps.chats.find_answer(identity.chat_id, identity.message_id)
            if stored is not None:
                self._stored = await self._deps.recover(stored)
            else:  # its chat was deleted, and what ran in it was cancelled
                self._stored = replace(self._stored, status=Status.CANCELLED)
        except StorageUnavailable:
            self._deps.telemetry.record(FallbackTaken("follow_blind", self.message_id))

    async def _end(self) -> None:
        """Make the end that the log lacks: only the end if the client has exactly what is stored, else all of it."""
        position, self._position = self._position, 0
        page = await self._read()
        if page is not None and len(page.events) == position and not page.ended:
            logged, stored = join(page.events), self._stored
            has_all = (logged.text, logged.reasoning, len(logged.sources)) == (
                stored.text,
                stored.reasoning,
                len(stored.sources),
            )
            if has_all or (stored.is_truncated and logged.text.startswith(stored.text)):
                self._deliver(last_events(self._stored, position + 1), True)
                return
        self._replay()

    def _replay(self) -> None:
        """Deliver all of it from MySQL, after a `start` that outdates older ids: the log may yet be there, or whole."""
        self._deliver([restart(self._stored)], True)
        self._deliver(replay(self._stored)[1:], False)
