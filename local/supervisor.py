"""Programs that are kept running together: one that cannot be kept ends the whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from local.process import ManagedProcess, Program
from local.process_group_guard import ProcessGroupGuard


class Supervisor:
    """Starts programs and keeps them; `report` hears of deaths, in one line each."""

    def __init__(self, group: asyncio.TaskGroup, guard: ProcessGroupGuard, report: Callable[[str], None]) -> None:
        self._group = group
        self._guard = guard
        self._report = report
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, program: Program, is_essential: bool = True) -> ManagedProcess:
        """Return a program that is not started yet; an essential one must not die before it is ready."""
        return ManagedProcess(program, self._guard, self._report, is_essential)

    def start(self, managed: ManagedProcess) -> None:
        """Keep it running from now on."""
        self._tasks.append(self._group.create_task(managed.run()))

    def stop(self) -> None:
        """Have all of them ended."""
        for task in self._tasks:
            if not task.cancelling():  # a second time would cut short what the first one began
                task.cancel()


@asynccontextmanager
async def supervise(guard: ProcessGroupGuard, report: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """Keep programs running during the body; when this is left all of them have ended.

    Raises:
        BaseExceptionGroup: with a StartFailed, when one cannot be kept; the body is cancelled then.
    """
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, guard, report)
        try:
            yield supervisor
        finally:
            supervisor.stop()
