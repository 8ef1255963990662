"""Memory and connections, sampled from outside of the processes. Linux only."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import median

from tests.kit.proxy import Proxy
from tests.kit.service import Service
from tests.soak.checks import growth

_FUNCTION = b"AWS_LAMBDA_FUNCTION_NAME="
_ESTABLISHED = "01"
MAX_GROWTH = 0.05
SLACK = 4
"""Connections more than before that are no growth."""


class Gauges:
    """Takes samples; `proxies` are by the names of the stores."""

    def __init__(self, service: Service, ai_port: int, proxies: dict[str, Proxy]) -> None:
        self._service, self._ai_port, self._proxies = service, ai_port, proxies
        self.names: dict[int, str] = {}
        self.memory: defaultdict[int, list[float]] = defaultdict(list)
        """MiB of each process that ever was."""
        self.connections: defaultdict[str, list[int]] = defaultdict(list)

    def sample(self) -> None:
        """Take one of everything."""
        for pid in self._service.pids():
            if (name := self._name(pid)) and (mebibytes := _resident(pid)):
                self.memory[pid].append(mebibytes)
        for name, count in self.open().items():
            self.connections[name].append(count)

    def open(self) -> dict[str, int]:
        """Return how many connections are open."""
        counted = {name: proxy.open_connections for name, proxy in self._proxies.items()}
        return {"ai": connections_to(self._ai_port), **counted}

    def totals(self) -> dict[str, float]:
        """Return the memory of the living by program."""
        totals: defaultdict[str, float] = defaultdict(float)
        for pid in self._service.pids():
            if self.memory.get(pid):
                totals[self.names[pid]] += self.memory[pid][-1]
        return {name: round(total) for name, total in sorted(totals.items())}

    def grown(self) -> dict[str, float]:
        """Return by which part the memory of each function's process has grown that lived for most of the time."""
        longest = max(map(len, self.memory.values()), default=0)
        found = {}
        for pid, samples in self.memory.items():
            part = growth(samples) if len(samples) > longest / 2 else None
            if part is not None and self.names[pid] != "gateway":
                found[f"{self.names[pid]} {pid}"] = round(part, 4)
        return found

    def grown_connections(self) -> list[str]:
        """Return where more were open in the last fifth of the time than before, after the warm-up."""
        found = []
        for name, counts in self.connections.items():
            fifth = len(counts) // 5
            if fifth >= 4:
                before, at_last = median(counts[fifth:-fifth]), median(counts[-fifth:])
                if at_last > before * (1 + MAX_GROWTH) + SLACK:
                    found.append(f"connections to {name} grow: {before:g}, then {at_last:g}")
        return found

    def _name(self, pid: int) -> str:
        if pid not in self.names:
            self.names[pid] = "gateway" if pid == self._service.process.pid else _function(pid)
        return self.names[pid]


def _function(pid: int) -> str:
    try:
        variables = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((one.removeprefix(_FUNCTION).decode() for one in variables if one.startswith(_FUNCTION)), "")


def _resident(pid: int) -> float:
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0)


def connections_to(port: int) -> int:
    """Count the established connections that a server on this machine has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED for row in rows)


def busy(before: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the machine's busy and whole time in ticks, since `before` if given."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    whole, idle = sum(numbers), numbers[3] + numbers[4]
    then = before or (0, 0)
    return whole - idle - then[0], whole - then[1]
