"""An event loop whose clock the test moves, so that time limits of any length are tested at once and exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class ClockLoop(asyncio.SelectorEventLoop):
    """Time stands still but for `advance`."""

    def __init__(self) -> None:
        self._seconds = 1000.0
        super().__init__()

    def time(self) -> float:
        return self._seconds

    async def advance(self, seconds: float) -> None:
        """Move the clock and let everything happen that is then due."""
        self._seconds += seconds
        for _ in range(5):  # a timer, what it calls, the task that this wakes, what follows
            await asyncio.sleep(0)


def run(main: Callable[[ClockLoop], Coroutine[Any, Any, None]]) -> None:
    """Run `main` in such a loop."""
    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClockLoop)
        runner.run(main(loop))
