"""Processes under measurement: their CPU time, their memory, their connections. Linux only."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_RESIDENT = "VmRSS:"


class Process:
    """A process that somebody else started and ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_ns(self) -> int:
        """CPU time of all threads, user and system, so far.

        Source: clock_getcpuclockid(3) and the kernel's CPU clock ids: the inverted pid, and 2 for the scheduler's time.
        """
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def resident_bytes(self) -> int:
        """Memory in use."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(_RESIDENT):
                return int(line.split()[1]) * 1024
        raise AssertionError("no resident size")

    def connections_to(self, port: int) -> int:
        """Count its established connections to a port of this machine."""
        sockets = set()
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                name = str(entry.readlink())
            except FileNotFoundError:
                continue
            if name.startswith("socket:["):
                sockets.add(name[8:-1])
        found = 0
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                parts = line.split()
                found += int(parts[2].rpartition(":")[2], 16) == port and parts[3] == "01" and parts[9] in sockets
        return found

    def check(self) -> None:
        """Raise if it has ended by itself."""
        os.kill(self.pid, 0)


class Child(Process):
    """A child process with a log; ended by `stop`."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.began_ns = time.monotonic_ns()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command), env=dict(environ), cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        super().__init__(self._process.pid)
        self._log = log

    def check(self) -> None:
        """Raise if it has ended by itself, with the end of its log."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._log.stem} has ended:\n{self._log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it, for certain."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
