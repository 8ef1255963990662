"""Start to answer a message: limits, then one MySQL transaction that alone decides, beside it the subscription."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import timedelta

from chat.application.admission import Admission
from chat.application.deps import AnswerDeps, Deadline
from chat.application.ports import AdmissionRequest, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.run_answer import AnswerRun
from chat.application.stop_signal import StopSignal
from chat.application.telemetry_events import LimitReached
from chat.domain.answer import Answer
from chat.domain.errors import STREAMS, RateLimited, StorageUnavailable, StreamInProgress
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


@dataclass(frozen=True, slots=True)
class SendMessage:
    """A user's message on its way."""

    chat_id: str
    user_id: str
    session_id: str
    content: str
    user_message_id: str | None
    seconds_left: float
    """Until the platform ends this request."""


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """Starts answers; one for each process."""

    deps: AnswerDeps
    rate_limiter: RateLimiter
    recover: OrphanRecovery

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
                await admission.release(0, has_started=False)
                await admission.stream.close()
        return result

    async def _admit(self, admission: Admission, message: SendMessage) -> StoredAnswer | None:
        """Acquire a slot. Where a limit refuses it, return the answer that the message already has."""
        try:
            await admission.acquire(self.deps.budget.max_tokens(message.content))
        except RateLimited as error:
            stored = None if error.limit == STREAMS else await self._existing_answer(message)
            if stored is None:
                refused = LimitReached(message.chat_id, message.user_id, message.session_id, error.limit)
                self.deps.telemetry.record(refused)
                raise
            return stored
        return None

    async def _existing_answer(self, message: SendMessage) -> StoredAnswer | None:
        """Return the answer that this message has and keeps: to follow it uses up no limit.

        Raises:
            ChatNotFound, IdempotencyConflict: as without a limit.
        """
        if message.user_message_id is None:
            return None
        try:
            stored = await self.deps.chats.find_sent(
                message.chat_id, message.user_id, message.user_message_id, message.content
            )
        except StorageUnavailable:
            return None
        stored = stored and await self.recover(stored)
        return None if stored is None or stored.status.retryable else stored

    async def _start(
        self, message: SendMessage, user_message_id: str, admission: Admission, deadline: Deadline
    ) -> AnswerRun | StoredAnswer:
        for _ in range(ATTEMPTS):
            result = await self._store(message, user_message_id, admission, deadline)
            if isinstance(result, AnswerRun):
                return result
            # In the way is an active answer, or one to the same message. If its owner is dead it ends here, and where a
            # new answer may then be started it is tried again.
            recovered = await self.recover(result.answer)
            if isinstance(result, SessionBusy) and recovered.is_active:
                raise StreamInProgress(recovered.identity.message_id)
            if isinstance(result, AlreadyAnswered) and not recovered.status.retryable:
                return recovered
        raise StorageUnavailable

    async def _store(
        self, message: SendMessage, user_message_id: str, admission: Admission, deadline: Deadline
    ) -> AnswerRun | AlreadyAnswered | SessionBusy:
        """Store the message and the answer's row while the subscription is being made."""
        deps, now = self.deps, self.deps.now()
        identity = AnswerIds(message.chat_id, new_id(), user_message_id, message.session_id, deps.ai.model)
        deadline_at = now + timedelta(seconds=deadline.ends_at - asyncio.get_running_loop().time())
        new = NewAnswer(identity, message.user_id, message.content, secrets.token_hex(16), now, deadline_at)
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
        return AnswerRun(deps, new, started, answer, lease, admission, stop, deadline)
