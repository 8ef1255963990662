"""The one way to end a generation early, whoever asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat.domain.errors import FailureCode
from chat.domain.model import Outcome, Status


class StopSignal:
    """Stops the model at once, also while it is silent; the first reason given stands."""

    def __init__(self) -> None:
        self.status: Status | None = None
        """Why it was stopped; None while it was not, and at the deadline."""
        self._scope: asyncio.Timeout | None = None

    def cancel(self) -> None:
        """Stop because somebody asked for it. May be called any number of times."""
        self.stop(Status.CANCELLED)

    def stop(self, status: Status) -> None:
        """Stop, for this reason."""
        self.status = self.status or status
        if self._scope is not None and not self._scope.expired():  # message and polled key both tell of a cancel
            self._scope.reschedule(0)

    @asynccontextmanager
    async def until(self, stops_at: float) -> AsyncIterator[None]:
        """Run a block that ends when it is stopped, or at `stops_at` in the event loop's seconds.

        Raises:
            TimeoutError: it was stopped, or its time is up; `outcome` says which.
        """
        async with asyncio.timeout_at(stops_at) as self._scope:
            try:
                yield
            finally:
                self._scope = None

    def outcome(self) -> Outcome:
        """Return how an answer ends that was stopped."""
        if self.status is Status.CANCELLED:
            return Outcome(Status.CANCELLED)
        if self.status is Status.INTERRUPTED:
            return Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED)
        return Outcome(Status.TIMEOUT, None, FailureCode.DEADLINE)
