"""End what a dead owner left, on read: whoever meets an active answer asks here first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chat.application.deps import CHECKPOINT_SECONDS
from chat.application.ports import AnswerTelemetry, Chats, EventLog, Leases, OwnerStatus
from chat.application.telemetry_events import FallbackTaken, OrphanRecovered
from chat.domain.errors import FailureCode, StorageRefused, StorageUnavailable
from chat.domain.final_offers import final_offers
from chat.domain.model import FinalAnswer, Outcome, Status, StoredAnswer, Usage
from chat.domain.prompt_window import estimate_tokens
from chat.domain.replay import Logged, join

OWNER_TIMEOUT = timedelta(seconds=3 * CHECKPOINT_SECONDS)
"""Longer without a sign of life in MySQL, and without a lease in Redis, is death."""
OWNER_TIMEOUT_UNCONFIRMED = 2 * OWNER_TIMEOUT
"""The same while Redis is away and the lease unknown: an outage of one store must never look like death."""
CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far the clocks of two hosts may be apart when one judges the other's deadline."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrphanRecovery:
    """Returns answers as they stand, those of dead owners finished."""

    chats: Chats
    leases: Leases
    event_log: EventLog
    telemetry: AnswerTelemetry
    now: Callable[[], datetime]

    async def __call__(self, stored: StoredAnswer) -> StoredAnswer:
        """Return `stored`, or how it ended if its owner had stashed its end or is dead.

        Everybody who reads an answer reads it through this. A stashed end is returned also while MySQL cannot take it:
        `is_saved` is False then, and who reads later tries again.

        Raises:
            StorageUnavailable: the owner is dead, and MySQL cannot be told so.
        """
        if not stored.is_active:
            return stored
        identity = stored.identity
        owner = await self.leases.owner_status(identity.chat_id, identity.message_id)
        if owner is not None and owner.stashed_final is not None:
            return await self._end_as_stashed(stored, owner.stashed_final)
        if not self._is_dead(stored, owner):
            return stored
        if await self._finish(stored, await self._last_known(stored), stored.owner_seen_at):
            self.telemetry.record(OrphanRecovered(stored, "interrupted"))
        await self.chats.make_searchable(identity.chat_id, identity.message_id)
        return await self.chats.find_answer(identity.chat_id, identity.message_id) or stored

    async def _end_as_stashed(self, stored: StoredAnswer, final: FinalAnswer) -> StoredAnswer:
        """Store the stashed end and return what is stored; while that cannot be done, the stashed end itself."""
        identity = stored.identity
        try:
            is_moved = await self._finish(stored, final)
            await self.chats.make_searchable(identity.chat_id, identity.message_id)
            known = await self.chats.find_answer(identity.chat_id, identity.message_id) or stored
        except StorageUnavailable:
            return _ended(stored, final)
        except Exception:
            logger.exception("a stashed end was not stored")  # whatever it was, there is an end to be read
            return _ended(stored, final)
        await self.leases.delete_stashed_final(identity.chat_id, identity.message_id)
        if is_moved:
            self.telemetry.record(OrphanRecovered(stored, "parked"))
        return known

    async def _finish(self, stored: StoredAnswer, final: FinalAnswer, if_seen_at: datetime | None = None) -> bool:
        """Store an end, or what MySQL takes of it.

        Raises:
            StorageRefused: nothing of it.
        """
        identity = stored.identity
        for offer in final_offers(final):
            try:
                return await self.chats.finish(
                    identity.chat_id, identity.message_id, stored.owner_token, offer, if_seen_at
                )
            except StorageRefused as error:
                if offer is final:
                    self.telemetry.record(FallbackTaken("final_refused", identity.message_id, error.reason))
        raise StorageRefused

    def _is_dead(self, stored: StoredAnswer, owner: OwnerStatus | None) -> bool:
        if owner is not None and owner.is_alive:
            return False
        now = self.now()
        timeout = OWNER_TIMEOUT if owner is not None else OWNER_TIMEOUT_UNCONFIRMED
        return now - stored.owner_seen_at > timeout or now > stored.deadline_at + CLOCK_TOLERANCE

    async def _last_known(self, stored: StoredAnswer) -> FinalAnswer:
        logged = await self._logged(stored)
        text = max(stored.text, logged.text, key=len)
        reasoning = max(stored.reasoning, logged.reasoning, key=len)
        sources = logged.sources or stored.sources
        usage = Usage(0, estimate_tokens(text) + estimate_tokens(reasoning), estimated=True)
        ending = Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED)
        return FinalAnswer(ending, text, reasoning, sources, usage, self.now())

    async def _logged(self, stored: StoredAnswer) -> Logged:
        identity = stored.identity
        try:
            page = await self.event_log.read(identity.chat_id, identity.message_id, 0)
        except StorageUnavailable:
            page = None
        return join(page.events if page else ())


def _ended(stored: StoredAnswer, final: FinalAnswer) -> StoredAnswer:
    """Return the answer as it ended, which MySQL does not know yet."""
    return replace(
        stored,
        status=final.outcome.status,
        text=final.text,
        reasoning=final.reasoning,
        sources=final.sources,
        finish_reason=final.outcome.finish_reason,
        error_code=final.outcome.error_code,
        usage=final.usage,
        finished_at=final.finished_at,
        is_truncated=final.is_truncated,
        is_saved=False,
    )
