"""An event loop with a clock of its own: waiting takes no time, or the test moves the clock; and processes in it that
can stand still, as under SIGSTOP."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""Whose code is running; tasks, timers and callbacks inherit it from what made them."""


class _Clock(selectors.DefaultSelector):
    """Instead of waiting, moves the clock to where the wait would have ended; if it does not skip, it waits."""

    seconds = 1000.0

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self._skips = skips

    def select(self, timeout: float | None = None) -> Any:
        if not self._skips:
            return super().select(timeout)
        assert timeout is not None, "nothing will ever happen again"
        self.seconds += max(timeout, 0)
        return super().select(0)


class _Step:
    """A callback that runs unless its process stands still; then it is kept until that goes on."""

    handle: asyncio.Handle

    def __init__(self, callback: Callable[..., object], arguments: tuple) -> None:
        self.callback, self.arguments = callback, arguments

    def __call__(self) -> None:
        process = PROCESS.get()
        if process is not None and process.is_frozen:
            process.kept.append((self, copy_context()))
        elif not self.handle.cancelled():
            self.callback(*self.arguments)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever nothing is left to do; no thread may work for it.

    Without `skips` its time stands still but for `advance`, so that time limits of any length are tested at once and
    exactly.
    """

    def __init__(self, skips: bool = True) -> None:
        self._clock = _Clock(skips)
        self.errors: list[dict[str, Any]] = []
        super().__init__(self._clock)
        if skips:
            self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def time(self) -> float:
        return self._clock.seconds

    async def advance(self, seconds: float) -> None:
        """Move the clock and let everything happen that is then due."""
        self._clock.seconds += seconds
        for _ in range(5):  # a timer, what it calls, the task that this wakes, what follows
            await asyncio.sleep(0)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        step = callback if isinstance(callback, _Step) else _Step(callback, args)
        handle = super().call_soon(step, context=context)
        if step is not callback:
            step.handle = handle
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        step = _Step(callback, args)
        step.handle = handle = super().call_at(when, step, context=context)
        return handle

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` to its end, and whatever else falls into that time."""
        return self.run_until_complete(work)


class Process:
    """What runs in it stands still while it is frozen, timers too; what arrives meanwhile is met when it goes on."""

    def __init__(self) -> None:
        self.is_frozen = False
        self.kept: list[tuple[_Step, Context]] = []
        self.tasks: list[asyncio.Task] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task:
        """Run `work` in this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks.append(task)
        return task

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        kept, self.kept = self.kept, []
        for step, context in kept:
            asyncio.get_running_loop().call_soon(step, context=context)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    """Run `main` in a loop whose time only `advance` moves."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(skips=False)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        runner.run(main(loop))
