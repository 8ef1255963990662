"""Cancel an answer, from whichever process: set the key, publish, and wait until its end is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chat.application.ports import AnswerTelemetry, CancelSignals, Chats, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.telemetry_events import CancelAnswered, LimitReached
from chat.domain.errors import ChatNotFound, RateLimited
from chat.domain.model import Status, StoredAnswer

WAIT_SECONDS = 2.0
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
    signals: CancelSignals
    recover: OrphanRecovery
    rate_limiter: RateLimiter
    telemetry: AnswerTelemetry
    now: Callable[[], datetime]
    wait_seconds: float = WAIT_SECONDS

    async def __call__(self, chat_id: str, user_id: str | None, session_id: str, target: CancelTarget) -> CancelResult:
        """Ask for the end of the target and wait for it, for a bounded time.

        Raises:
            ChatNotFound: not this user's chat; or no user is named and the session is not streaming in it.
            RateLimited: too many cancels wait for messages that have not arrived.
            StorageUnavailable: MySQL or Redis is down; the request may or may not have arrived.
        """
        began = self.now()
        answer = await self._find(chat_id, user_id, session_id, target)
        if answer is None:
            result = await self._before_arrival(chat_id, user_id, session_id, target)
        else:
            result = await self.stop(answer, session_id)
        milliseconds = (self.now() - began).total_seconds() * 1000
        message_id = answer.identity.message_id if answer else None
        self.telemetry.record(
            CancelAnswered(chat_id, message_id, user_id, session_id, type(result).__name__, milliseconds)
        )
        return result

    async def _find(
        self, chat_id: str, user_id: str | None, session_id: str, target: CancelTarget
    ) -> StoredAnswer | None:
        """Return the target. Who leaves the user out must be streaming in the chat."""
        active: StoredAnswer | None = None
        if user_id is not None:
            await self.chats.require(chat_id, user_id)
        else:
            active = await self.chats.find_active(chat_id, session_id)
            if active is None:
                raise ChatNotFound
        if target.message_id is not None:
            return await self.chats.find_answer(chat_id, target.message_id)
        if target.user_message_id is not None:
            return await self.chats.find_answer_to(chat_id, target.user_message_id)
        return active or await self.chats.find_active(chat_id, session_id)

    async def _before_arrival(
        self, chat_id: str, user_id: str | None, session_id: str, target: CancelTarget
    ) -> CancelResult:
        """Leave a pending cancel, then look again: the message may have arrived while it was on its way.

        Either the stream's row is there by now, or the stream reads the pending cancel after it has stored its row.
        """
        if target.user_message_id is None:
            return NotActive()
        owner = f"chat {chat_id}" if user_id is None else user_id  # no user's id has a space
        try:
            await self.rate_limiter.count_pending_cancel(owner, f"{chat_id}:{target.user_message_id}")
        except RateLimited as error:
            self.telemetry.record(LimitReached(chat_id, user_id, session_id, error.limit))
            raise
        await self.signals.put_pending_cancel(chat_id, target.user_message_id, session_id)
        answer = await self.chats.find_answer_to(chat_id, target.user_message_id)
        if answer is None:
            return Cancelling(None)
        await self.signals.delete_pending_cancel(chat_id, target.user_message_id)
        return await self.stop(answer, session_id)

    async def stop(self, answer: StoredAnswer, by_session: str) -> CancelResult:
        """Ask for the end of this answer and wait for it, for a bounded time; as `__call__`, without its record."""
        answer = await self.recover(answer)
        if answer.is_active:
            identity = answer.identity
            await self.signals.request_cancel(identity.chat_id, identity.message_id, by_session)
            answer = await self._await_end(answer)
        if answer.is_active:
            return Cancelling(answer.identity.message_id)
        return Cancelled(answer) if answer.status is Status.CANCELLED else NotActive()

    async def _await_end(self, answer: StoredAnswer) -> StoredAnswer:
        loop = asyncio.get_running_loop()
        identity, pause, until = answer.identity, FIRST_LOOK_SECONDS, loop.time() + self.wait_seconds
        while answer.is_active and loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK_SECONDS)
            answer = await self.chats.find_answer(identity.chat_id, identity.message_id) or answer
        return await self.recover(answer)  # it may have ended while MySQL could not take its end
