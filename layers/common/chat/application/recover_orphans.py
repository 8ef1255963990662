"""End what a dead owner left, on read: whoever meets an active answer asks here first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chat.application.deps import CHECKPOINT_SECONDS
from chat.application.ports import AnswerTelemetry, Chats, EventLog, Leases, OwnerStatus
from chat.application.telemetry_events import OrphanRecovered
from chat.domain.errors import FailureCode, StorageUnavailable
from chat.domain.model import FinalAnswer, Outcome, Status, StoredAnswer, Usage
from chat.domain.prompt_window import estimate_tokens
from chat.domain.replay import Logged, join

OWNER_TIMEOUT = timedelta(seconds=3 * CHECKPOINT_SECONDS)
"""Longer without a sign of life in MySQL, and without a lease in Redis, is death."""
OWNER_TIMEOUT_UNCONFIRMED = 2 * OWNER_TIMEOUT
"""The same while Redis is away and the lease unknown: an outage of one store must never look like death."""
CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far the clocks of two hosts may be apart when one judges the other's deadline."""


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

        Raises:
            StorageUnavailable: MySQL is down.
        """
        if not stored.is_active:
            return stored
        identity = stored.identity
        owner = await self.leases.owner_status(identity.chat_id, identity.message_id)
        if owner is not None and owner.stashed_final is not None:
            await self.chats.finish(identity.chat_id, identity.message_id, stored.owner_token, owner.stashed_final)
            await self.leases.delete_stashed_final(identity.chat_id, identity.message_id)
            self.telemetry.record(OrphanRecovered(stored, "parked"))
        elif self._is_dead(stored, owner):
            final = await self._last_known(stored)
            if await self.chats.finish(
                identity.chat_id, identity.message_id, stored.owner_token, final, if_seen_at=stored.owner_seen_at
            ):
                self.telemetry.record(OrphanRecovered(stored, "interrupted"))
        else:
            return stored
        await self.chats.make_searchable(identity.chat_id, identity.message_id)
        return await self.chats.find_answer(identity.chat_id, identity.message_id) or stored

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
