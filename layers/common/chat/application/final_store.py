"""Stores how an answer ended: in MySQL, or while that is down, in Redis for the next reader to store."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from chat.application.deps import AnswerDeps
from chat.application.ports import AnswerLease
from chat.application.telemetry_events import FallbackTaken
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.final_offers import final_offers
from chat.domain.model import AnswerIds, FinalAnswer, StoredAnswer

RETRY_SECONDS = 0.2
FROZEN_SECONDS = 2.0
"""A time limit that is exceeded by more, when it is noticed, ran out while the process was frozen."""

logger = logging.getLogger(__name__)


class StoreResult(NamedTuple):
    """Whether MySQL has the end; and, if another process ended the answer first, what is stored instead."""

    is_saved: bool
    stored_by_other: StoredAnswer | None = None
    is_deleted: bool = False
    """The chat is no more, and with it the answer's row."""
    is_truncated: bool = False
    """MySQL has less of it than there was."""


class FinalStore:
    """Stores the end of one answer."""

    def __init__(
        self, deps: AnswerDeps, lease: AnswerLease, identity: AnswerIds, owner_token: str, ends_at: float
    ) -> None:
        self._deps, self._lease, self._identity = deps, lease, identity
        self._owner_token, self._ends_at = owner_token, ends_at

    async def store(self, final: FinalAnswer) -> StoreResult:
        """Try MySQL for a bounded time, then Redis. What MySQL refuses is cut until it fits.

        Raises nothing but cancellation.
        """
        loop = asyncio.get_running_loop()
        until = self._retry_until(loop.time())
        offers = final_offers(final)
        offer = next(offers)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await self._try(offer)
            except StorageRefused as error:
                if offer is final:
                    refused = FallbackTaken("final_refused", self._identity.message_id, error.reason)
                    self._deps.telemetry.record(refused)
                smaller = next(offers, None)
                if smaller is None:
                    break
                offer = smaller
            except (StorageUnavailable, TimeoutError):
                if loop.time() > until + FROZEN_SECONDS:  # another process may have ended the answer meanwhile
                    until = self._retry_until(loop.time())
                elif loop.time() + RETRY_SECONDS >= until:
                    break
                else:
                    await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception("an end was not stored")  # whatever it was, the client is told how the answer ended
                break
        is_stashed = await self._lease.stash_final(final)
        fallback = FallbackTaken("final_parked" if is_stashed else "final_lost", self._identity.message_id)
        self._deps.telemetry.record(fallback)
        return StoreResult(is_saved=False)

    def _retry_until(self, now: float) -> float:
        return min(now + self._deps.budget.store_seconds, max(self._ends_at - 0.5, now + 0.5))

    async def _try(self, final: FinalAnswer) -> StoreResult:
        identity, chats = self._identity, self._deps.chats
        if await chats.finish(identity.chat_id, identity.message_id, self._owner_token, final):
            return StoreResult(is_saved=True, is_truncated=final.is_truncated)
        stored = await chats.find_answer(identity.chat_id, identity.message_id)
        if stored is None:
            logger.warning("an answer ended after its chat was deleted")
            return StoreResult(is_saved=False, is_deleted=True)
        if stored.is_active:
            raise StorageUnavailable
        is_the_same = (stored.status, stored.text) == (final.outcome.status, final.text)
        if is_the_same:
            return StoreResult(is_saved=True, is_truncated=stored.is_truncated)
        return StoreResult(is_saved=True, stored_by_other=stored)
