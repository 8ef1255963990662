"""Ends our processes when the one that started them is gone, however it went: no signal handler survives SIGKILL.

Run as a program of its own it reads the ids of process groups from standard input, `+id` or `-id` a line, and when that
ends, because the other end is closed or dead, it kills the groups that are left. Works on Linux and macOS alike.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from types import TracebackType


class ProcessGroupGuard:
    """The other end: tells the program which process groups are ours."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """Have this process group killed should we die."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Leave it alone: it has ended, and its id may be given to someone else."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        assert self._program.stdin is not None  # noqa: S101  # it was opened as a pipe
        with contextlib.suppress(BrokenPipeError):
            self._program.stdin.write(line.encode())
            self._program.stdin.flush()

    def __enter__(self) -> ProcessGroupGuard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._program.communicate()


def kill_group(group: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to every process of a group; nothing happens when there is none left."""
    # macOS says PermissionError for a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def main() -> None:
    """Remember groups until standard input ends, then kill them."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    main()
