"""One program that is kept running: started, started again when it dies, and ended with everything it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.process_group_guard import ProcessGroupGuard, kill_group

_TRIES = 5
_LONGEST_PAUSE_SECONDS = 5.0
_GRACE_SECONDS = 3.0
_PATIENCE_SECONDS = 60.0


class StartFailed(RuntimeError):
    """Something does not start; the message is one line for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Its output goes to the file `log`, its standard input is empty."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    log: Path
    inherited: tuple[int, ...] = ()
    """File descriptors that it gets from us."""
    probe: Callable[[], Awaitable[None]] | None = None
    """Returns once the program can be used; without one somebody else sets `ManagedProcess.ready`."""

    async def start(self, guard: ProcessGroupGuard) -> Process:
        """Start it in a session of its own, so that Ctrl-C at the terminal reaches only us.

        Raises:
            StartFailed: the command cannot be run.
        """
        with self.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environ,
                    cwd=self.folder,
                    stdin=DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=self.inherited,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"{self.name} cannot be started: {error.strerror}: {self.command[0]}") from error
        guard.watch(process.pid)
        return process

    def last_log_line(self) -> str:
        """Return the last line of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else "it said nothing"


def shown(path: Path) -> str:
    """Return a path as short as it can be given at this terminal."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this interpreter."""
    return (sys.executable, *arguments)


class ManagedProcess:
    """A program that is kept running while `run` runs.

    Before it was ever ready, one death is final; afterwards five in a row are, with growing pauses between them.
    """

    def __init__(
        self, program: Program, guard: ProcessGroupGuard, report: Callable[[str], None], is_essential: bool = True
    ):
        self.ready = asyncio.Event()
        """Set while the program can be used."""
        self.last_log_line: str | None = None
        """Why it could not start, where it said so itself."""
        self.on_death: Callable[[], None] = lambda: None
        self.program = program
        self._guard = guard
        self._report = report
        self._tries = 1 if is_essential else _TRIES
        self._process: Process | None = None

    async def run(self) -> None:
        """Keep it running until cancelled; then it is ended before this returns.

        Raises:
            StartFailed: it dies again and again before it can be used.
        """
        failures = 0
        while True:
            ending = await self._live()
            if self.ready.is_set():
                failures, self._tries = 0, _TRIES
            else:
                failures += 1
            self.ready.clear()
            if failures >= self._tries:
                raise StartFailed(self._complaint(ending))
            self._report(f"{self.program.name} {ending} and is started again (log: {shown(self.program.log)})")
            await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, 0.1 * 2**failures))

    async def _live(self) -> str:
        self.last_log_line = None
        process = self._process = await self.program.start(self._guard)
        probing = asyncio.create_task(self._probe())
        try:
            code = await process.wait()
        finally:
            probing.cancel()
            await self._end(process)
            self.on_death()
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"

    async def _probe(self) -> None:
        if self.program.probe is not None:
            await self.program.probe()
            self.ready.set()

    async def _end(self, process: Process) -> None:
        """Leave nothing of its group, also when it has ended by itself but something that it started has not."""
        if process.returncode is None:
            kill_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        kill_group(process.pid)
        await process.wait()
        self._guard.forget(process.pid)

    def _complaint(self, ending: str) -> str:
        why = self.last_log_line or self.program.last_log_line()
        return f"{self.program.name} does not start: it {ending}: {why} (log: {shown(self.program.log)})"

    @property
    def is_running(self) -> bool:
        """There is a process, ready or not."""
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        """End it at once; it is then started again."""
        if self._process is not None and self._process.returncode is None:
            kill_group(self._process.pid)


async def all_ready(programs: Sequence[ManagedProcess]) -> None:
    """Wait until all of them can be used.

    Raises:
        StartFailed: it takes too long.
    """
    for one in programs:
        try:
            await asyncio.wait_for(one.ready.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            where = shown(one.program.log)
            raise StartFailed(f"{one.program.name} is not ready after {_PATIENCE_SECONDS:g} s (log: {where})") from None


async def run_once(program: Program, guard: ProcessGroupGuard) -> None:
    """Run a program to its end.

    Raises:
        StartFailed: it cannot be run, or fails.
    """
    process = await program.start(guard)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            kill_group(process.pid)
            await process.wait()
        guard.forget(process.pid)
    if code != 0:
        raise StartFailed(f"{program.name} failed: {program.last_log_line()} (log: {shown(program.log)})")
