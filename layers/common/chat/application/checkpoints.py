"""Partial text and signs of life, written to MySQL while an answer runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chat.application.deps import AnswerDeps
from chat.application.telemetry_events import FallbackTaken
from chat.domain.answer import Answer
from chat.domain.errors import StorageRefused, StorageUnavailable

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes one answer's checkpoints until it is cancelled, or the answer is no longer this owner's."""

    def __init__(self, deps: AnswerDeps, answer: Answer, owner_token: str, on_lost: Callable[[], None]) -> None:
        self._deps, self._answer, self._owner_token, self._on_lost = deps, answer, owner_token, on_lost
        self._max_characters: int | None = None
        """How much of the text is written; None for everything. What was refused is not tried again in its size."""

    async def run(self) -> None:
        """Write one every `checkpoint_seconds`; call `on_lost` and return when another process has ended the answer."""
        deps = self._deps
        while True:
            await asyncio.sleep(deps.budget.checkpoint_seconds)
            try:
                async with self._slot():
                    is_ours = await self._write()
            except StorageUnavailable:
                deps.telemetry.record(FallbackTaken("checkpoint_missed", self._answer.identity.message_id))
                continue
            except Exception:
                logger.exception("a checkpoint failed")  # the next may be taken, and the answer goes on
                continue
            if not is_ours:
                self._on_lost()
                return

    async def _write(self) -> bool:
        """Write one; what is refused is tried with half of it at once, down to the sign of life alone."""
        while True:
            most = self._max_characters
            try:
                return await self._deps.chats.checkpoint(self._answer, self._owner_token, self._deps.now(), most)
            except StorageRefused as error:
                if most is None:
                    message_id = self._answer.identity.message_id
                    self._deps.telemetry.record(FallbackTaken("checkpoint_refused", message_id, error.reason))
                elif most == 0:
                    raise
                length = self._answer.characters
                self._max_characters = length if most is None else min(most, length) // 2

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for a slot, but no longer than one interval: a slow MySQL must not make the owner look dead."""
        slots = self._deps.checkpoint_slots
        try:
            async with asyncio.timeout(self._deps.budget.checkpoint_seconds):
                await slots.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            slots.release()
