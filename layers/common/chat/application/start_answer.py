"""Start to answer a message: limits, then one MySQL transaction that alone decides, beside it the subscription."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from chat.application.admission import Admission
from chat.application.cancel_answer import CancelAnswer, Cancelling, CancelTarget
from chat.application.deps import AnswerDeps, Deadline
from chat.application.ports import AdmissionRequest, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.run_answer import AnswerRun
from chat.application.stop_signal import StopSignal
from chat.application.telemetry_events import LimitReached
from chat.domain.answer import Answer
from chat.domain.errors import ACTIVE, STREAMS, RateLimited, StorageUnavailable, StreamInProgress
from chat.domain.model import (
    AlreadyAnswered,
    AnswerIds,
    NewAnswer,
    SessionBusy,
    Started,
    StoredAnswer,
    new_id,
)
from chat.domain.prompt_window import BYTES_PER_TOKEN

ATTEMPTS = 3
ATTEMPTS_TO_TAKE_OVER = 8
"""Of a send that cancels what is in its way: as many others may come in between."""
SLOT_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between looks for the slot of an answer that was cancelled: it is given back a moment after the end."""


@dataclass(frozen=True, slots=True)
class SendMessage:
    """A user's message on its way."""

    chat_id: str
    user_id: str
    session_id: str
    content: str | None
    """None for another answer to a message that is stored: `user_message_id` says which."""
    user_message_id: str | None
    seconds_left: float
    """Until the platform ends this request."""
    parent_id: str | None = None
    """The answer that the message follows: ROOT for none, None for the end of the active branch."""
    attempt_id: str | None = None
    """The same attempt at another answer never generates twice."""
    model: str | None = None
    """For this answer only; None for the chat's own, else the default."""
    cancels_busy: bool = False
    """The session's running answer is cancelled first, instead of being in the way."""

    @property
    def is_regeneration(self) -> bool:
        return self.content is None


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """Starts answers; one for each process."""

    deps: AnswerDeps
    rate_limiter: RateLimiter
    recover: OrphanRecovery
    cancel: CancelAnswer

    async def __call__(self, message: SendMessage) -> AnswerRun | StoredAnswer:
        """Return the answer that this process now owns and must run, or the one that this message already has.

        Raises:
            ChatNotFound, StreamInProgress, IdempotencyConflict, RateLimited, StorageUnavailable: nothing was started.
        """
        deadline = self.deps.budget.deadline(asyncio.get_running_loop().time(), message.seconds_left)
        user_message_id = message.user_message_id or new_id()
        request = AdmissionRequest(
            user_id=message.user_id, message=f"{message.chat_id}:{user_message_id}", name=secrets.token_hex(8)
        )
        admission = Admission(self.rate_limiter, request)
        result: AnswerRun | StoredAnswer | None = None
        try:
            async with asyncio.timeout_at(deadline.stops_at):
                result = await self._admit(admission, message) or await self._start(
                    message, user_message_id, admission, deadline
                )
        except TimeoutError as error:
            raise StorageUnavailable from error
        finally:
            if not isinstance(result, AnswerRun):
                await admission.stream.close()
                await admission.release(0, has_started=False)
        return result

    async def _admit(self, admission: Admission, message: SendMessage) -> StoredAnswer | None:
        """Acquire a slot. Where a limit refuses it, return the answer that the message already has.

        Who cancels what is in its way takes the slot of the session's own answer.
        """
        tokens = self.deps.budget.max_tokens(message.content or "")
        try:
            await admission.acquire(tokens)
        except RateLimited as error:
            stored = None if error.limit == STREAMS else await self._existing_answer(message)
            if stored is not None:
                return stored
            if error.limit == ACTIVE and await self._take_over(admission, message, tokens):
                return None
            refused = LimitReached(message.chat_id, message.user_id, message.session_id, error.limit)
            self.deps.telemetry.record(refused)
            raise
        return None

    async def _take_over(self, admission: Admission, message: SendMessage, tokens: int) -> bool:
        """Cancel the session's running answer if that is wanted, and acquire the slot that it gives back.

        Raises:
            ChatNotFound, StreamInProgress, StorageUnavailable: as without a limit.
        """
        if not message.cancels_busy:
            return False
        await self.deps.chats.require(message.chat_id, message.user_id)
        running = await self.deps.chats.find_active(message.chat_id, message.session_id)
        if running is None:
            return False
        await self._make_way(message, running)
        for pause in (*SLOT_PAUSES, None):
            with suppress(RateLimited):
                await admission.acquire(tokens)
                return True
            if pause is not None:
                await asyncio.sleep(pause)
        return False

    async def _existing_answer(self, message: SendMessage) -> StoredAnswer | None:
        """Return the answer that this message has and keeps: to follow it uses up no limit.

        Raises:
            ChatNotFound, IdempotencyConflict: as without a limit.
        """
        if message.user_message_id is None or (message.is_regeneration and message.attempt_id is None):
            return None
        chats, chat_id, user_id = self.deps.chats, message.chat_id, message.user_id
        try:
            if message.content is not None:
                stored = await chats.find_sent(chat_id, user_id, message.user_message_id, message.content)
            else:
                await chats.require(chat_id, user_id)
                stored = await chats.find_answer(chat_id, _message_id(message, message.user_message_id))
        except StorageUnavailable:
            return None
        stored = stored and await self.recover(stored)
        if stored is None or (stored.status.retryable and not message.is_regeneration):
            return None
        return stored

    async def _start(
        self, message: SendMessage, user_message_id: str, admission: Admission, deadline: Deadline
    ) -> AnswerRun | StoredAnswer:
        for is_last in _attempts(message):
            result = await self._store(message, user_message_id, admission, deadline)
            if isinstance(result, AnswerRun):
                return result
            # In the way is an active answer, or one to the same message. If its owner is dead it ends here, and where a
            # new answer may then be started it is tried again.
            recovered = await self.recover(result.answer)
            if isinstance(result, SessionBusy):
                if is_last and (recovered.is_active or message.cancels_busy):
                    # Whoever was cancelled now would have been so for nothing; others are quicker.
                    raise StreamInProgress(recovered.identity.message_id)
                if recovered.is_active:
                    await self._make_way(message, recovered)
            elif message.is_regeneration or not recovered.status.retryable:
                return recovered
        raise StorageUnavailable

    async def _make_way(self, message: SendMessage, running: StoredAnswer) -> None:
        """Cancel the answer that is in the way, if that is wanted and it is this session's.

        Raises:
            StreamInProgress: it goes on.
        """
        in_the_way = StreamInProgress(running.identity.message_id)
        if not message.cancels_busy or running.identity.session_id != message.session_id:
            raise in_the_way
        target = CancelTarget(message_id=running.identity.message_id)
        result = await self.cancel(message.chat_id, message.user_id, message.session_id, target)
        if isinstance(result, Cancelling):
            raise in_the_way

    async def _store(
        self, message: SendMessage, user_message_id: str, admission: Admission, deadline: Deadline
    ) -> AnswerRun | AlreadyAnswered | SessionBusy:
        """Store the message and the answer's row while the subscription is being made."""
        deps, now = self.deps, self.deps.now()
        models = deps.ai.models
        identity = AnswerIds(
            chat_id=message.chat_id,
            message_id=_message_id(message, user_message_id),
            user_message_id=user_message_id,
            session_id=message.session_id,
            model=message.model or models[0],
        )
        deadline_at = now + timedelta(seconds=deadline.ends_at - asyncio.get_running_loop().time())
        new = NewAnswer(
            identity=identity,
            user_id=message.user_id,
            content=message.content or "",
            owner_token=secrets.token_hex(16),
            now=now,
            deadline_at=deadline_at,
            parent_id=message.parent_id,
            is_regeneration=message.is_regeneration,
            chat_models=() if message.model else models,
        )
        answer, stop = Answer(identity), StopSignal()
        lease = deps.leases.claim(answer, new.owner_token, message.user_id, stop.cancel)
        started: Started | AlreadyAnswered | SessionBusy | None = None
        try:
            started = await deps.chats.open_answer(new, deps.budget.context_tokens * BYTES_PER_TOKEN)
        finally:
            if not isinstance(started, Started):
                await lease.close()
        if not isinstance(started, Started):
            return started
        answer.identity = replace(identity, model=started.model or identity.model)
        return AnswerRun(deps, new, started, answer, lease, admission, stop, deadline)


def _attempts(message: SendMessage) -> Iterator[bool]:
    """Yield for each attempt whether it is the last one."""
    count = ATTEMPTS_TO_TAKE_OVER if message.cancels_busy else ATTEMPTS
    return (number == count for number in range(1, count + 1))


def _message_id(message: SendMessage, user_message_id: str) -> str:
    """Return the new answer's id: for an attempt the same each time, so that the database refuses the second one."""
    if message.attempt_id is None:
        return new_id()
    return str(uuid.uuid5(uuid.UUID(user_message_id), message.attempt_id))
