"""Cancel an answer, from whichever process: set the key, publish, and wait until its end is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chat.application.ports import Chats, Journal, Live
from chat.application.recover_orphans import OrphanRecovery
from chat.domain.errors import ChatNotFound
from chat.domain.model import Status, StoredAnswer

PATIENCE_SECONDS = 2.0
"""How long a cancel waits for the partial answer to be stored before it says `cancelling`."""
FIRST_LOOK_SECONDS = 0.01
LAST_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CancelTarget:
    """What to cancel: an answer, the answer to a message, or with neither this session's active one."""

    message_id: str | None = None
    user_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The partial answer is stored."""

    answer: StoredAnswer


@dataclass(frozen=True, slots=True)
class Cancelling:
    """The request is kept; the end is not stored yet, or the message has not arrived."""

    message_id: str | None


@dataclass(frozen=True, slots=True)
class NotActive:
    """There is nothing to cancel."""


CancelResult = Cancelled | Cancelling | NotActive


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """Stops exactly the answer that is named, never a later one."""

    chats: Chats
    live: Live
    reap: OrphanRecovery
    journal: Journal
    now: Callable[[], datetime]
    patience_seconds: float = PATIENCE_SECONDS

    async def __call__(self, chat_id: str, user_id: str | None, session_id: str, target: CancelTarget) -> CancelResult:
        """Ask for the end of the target and wait for it, for a bounded time.

        Raises:
            ChatNotFound: not this user's chat; or no user is named and the session is not streaming in it.
            StorageUnavailable: MySQL or Redis is away; the request may or may not have arrived.
        """
        began = self.now()
        await self._authorize(chat_id, user_id, session_id)
        answer = await self._find(chat_id, session_id, target)
        if answer is None:
            outcome = await self._before_arrival(chat_id, session_id, target)
        else:
            outcome = await self._stop(answer, session_id)
        milliseconds = (self.now() - began).total_seconds() * 1000
        message_id = answer.identity.message_id if answer else None
        self.journal.cancelled(chat_id, message_id, user_id, session_id, type(outcome).__name__, milliseconds)
        return outcome

    async def _authorize(self, chat_id: str, user_id: str | None, session_id: str) -> None:
        if user_id is not None:
            await self.chats.require(chat_id, user_id)
        elif await self.chats.find_active(chat_id, session_id) is None:
            raise ChatNotFound

    async def _find(self, chat_id: str, session_id: str, target: CancelTarget) -> StoredAnswer | None:
        if target.message_id is not None:
            return await self.chats.find_answer(chat_id, target.message_id)
        if target.user_message_id is not None:
            return await self.chats.find_answer_to(chat_id, target.user_message_id)
        return await self.chats.find_active(chat_id, session_id)

    async def _before_arrival(self, chat_id: str, session_id: str, target: CancelTarget) -> CancelResult:
        """Leave an intent, then look again: the message may have arrived while the intent was on its way.

        Either the stream's row is there by now, or the stream reads the intent after it has stored its row.
        """
        if target.user_message_id is None:
            return NotActive()
        await self.live.put_pending_cancel(chat_id, target.user_message_id, session_id)
        answer = await self.chats.find_answer_to(chat_id, target.user_message_id)
        if answer is None:
            return Cancelling(None)
        await self.live.delete_pending_cancel(chat_id, target.user_message_id)
        return await self._stop(answer, session_id)

    async def _stop(self, answer: StoredAnswer, session_id: str) -> CancelResult:
        answer = await self.reap(answer)
        if answer.is_active:
            who = answer.identity
            await self.live.request_cancel(who.chat_id, who.message_id, session_id)
            answer = await self._await_end(answer)
        if answer.is_active:
            return Cancelling(answer.identity.message_id)
        return Cancelled(answer) if answer.status is Status.CANCELLED else NotActive()

    async def _await_end(self, answer: StoredAnswer) -> StoredAnswer:
        loop = asyncio.get_running_loop()
        who, pause, until = answer.identity, FIRST_LOOK_SECONDS, loop.time() + self.patience_seconds
        while answer.is_active and loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK_SECONDS)
            answer = await self.chats.find_answer(who.chat_id, who.message_id) or answer
        return answer
