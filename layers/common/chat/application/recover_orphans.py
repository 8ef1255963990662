"""Finish what a dead owner left, on read: whoever meets an active answer asks here first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chat.application.ports import Chats, Journal, Live, OwnerStatus
from chat.domain.errors import FailureCode, StorageUnavailable
from chat.domain.model import FinalAnswer, Outcome, Status, StoredAnswer, Usage
from chat.domain.prompt_window import estimate_tokens
from chat.domain.replay import Logged, join

CHECKPOINT_SECONDS = 5.0
"""How often an owner writes its partial text and its sign of life to MySQL."""
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
    live: Live
    journal: Journal
    now: Callable[[], datetime]

    async def __call__(self, stored: StoredAnswer) -> StoredAnswer:
        """Return `stored`, or how it ended if its owner had parked its end or is dead.

        Raises:
            StorageUnavailable: MySQL is away.
        """
        if not stored.is_active:
            return stored
        who = stored.identity
        vitals = await self.live.owner_status(who.chat_id, who.message_id)
        if vitals is not None and vitals.parked is not None:
            await self.chats.finish(who.chat_id, who.message_id, stored.owner_token, vitals.parked)
            await self.live.delete_stashed_final(who.chat_id, who.message_id)
            self.journal.reaped(stored, "parked")
        elif self._is_dead(stored, vitals):
            final = await self._last_known(stored)
            if await self.chats.finish(
                who.chat_id, who.message_id, stored.owner_token, final, if_seen_at=stored.owner_seen_at
            ):
                self.journal.reaped(stored, "interrupted")
        else:
            return stored
        return await self.chats.find_answer(who.chat_id, who.message_id) or stored

    def _is_dead(self, stored: StoredAnswer, vitals: OwnerStatus | None) -> bool:
        if vitals is not None and vitals.owner_alive:
            return False
        now = self.now()
        silence = OWNER_TIMEOUT if vitals is not None else OWNER_TIMEOUT_UNCONFIRMED
        return now - stored.owner_seen_at > silence or now > stored.deadline_at + CLOCK_TOLERANCE

    async def _last_known(self, stored: StoredAnswer) -> FinalAnswer:
        logged = await self._logged(stored)
        text = max(stored.text, logged.text, key=len)
        reasoning = max(stored.reasoning, logged.reasoning, key=len)
        sources = logged.sources or stored.sources
        usage = Usage(0, estimate_tokens(text) + estimate_tokens(reasoning), estimated=True)
        ending = Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED)
        return FinalAnswer(ending, text, reasoning, sources, usage, self.now())

    async def _logged(self, stored: StoredAnswer) -> Logged:
        who = stored.identity
        try:
            page = await self.live.read_log(who.chat_id, who.message_id, 0)
        except StorageUnavailable:
            page = None
        return join(page.events if page else ())
