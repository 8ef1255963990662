"""How long the AI may be silent: one timer for a whole answer, moved with every token at the price of an assignment."""

from __future__ import annotations

import asyncio
from types import TracebackType


class IdleTimeout:
    """Raises TimeoutError inside its `async with` when what is waited for does not come in time.

    Only waiting counts: from `pause` to `resume` or the next `reset` the clock stands still, so that the body may be a
    generator that stands still at a `yield`. To be used by one task, which must not change meanwhile.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = float("inf")
        self._left = float("inf")
        """Seconds that were left when it was paused."""

    def reset(self, within_seconds: float) -> None:
        """Allow so much time from now on."""
        self._ends_at = self._loop.time() + within_seconds
        if self._timer is None or self._timer.when() > self._ends_at:
            self._set_timer()

    def pause(self) -> None:
        """Allow any time until `reset` or `resume` is called."""
        self._left = self._ends_at - self._loop.time()
        self._ends_at = float("inf")
        if self._scope.when() is not None:  # it was about to expire
            self._scope.reschedule(None)

    def resume(self) -> None:
        """Allow what was left when it was paused."""
        self.reset(max(0.0, self._left))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._ends_at, self._on_timer)

    def _on_timer(self) -> None:
        """Look whether the end has been moved since the timer was set; most often it has."""
        self._timer = None
        if self._ends_at <= self._loop.time():
            self._scope.reschedule(self._ends_at)
        elif self._ends_at != float("inf"):
            self._set_timer()

    async def __aenter__(self) -> IdleTimeout:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)
