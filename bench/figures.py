"""The figures by name, and what was set as a target for each of ours."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

Samples = dict[str, dict[str, list[float]]]
"""By figure, by peer: a value for each round."""

FIGURES: dict[str, str] = {
    "first_p50": "added to the first delta, p50, ms",
    "first_p99": "added to the first delta, p99, ms",
    "far_1_p50": "added to the first delta with the stores 1 ms away (each way), p50, ms",
    "far_3_p50": "the same with the stores 3 ms away, p50, ms",
    "cpu_flat": "CPU per delta, flat out, µs",
    "cpu_paced": "CPU per delta at 200/s, µs",
    "many_p50": "200 streams × 30/s in one process: added p50, ms",
    "many_p99": "200 streams × 30/s: added p99, ms",
    "many_cpu": "200 streams × 30/s: CPU per delta, µs",
    "many_memory": "memory per further stream, MB",
    "many_redis_connections": "Redis connections at 200 streams",
    "cancel_p50": "cancel to AI connection closed, p50, ms",
    "cancel_p99": "cancel to AI connection closed, p99, ms",
    "cancel_silent_p50": "the same while the AI is silent, p50, ms",
    "cancel_silent_p99": "the same while the AI is silent, p99, ms",
    "cold_source": "cold start to first delta, CPU ms, without .pyc",
    "cold_pyc": "cold start to first delta, CPU ms, with .pyc",
    "restored": "restored from a snapshot to first delta, CPU ms, with .pyc",
    "redis_trips": "Redis round trips per answer",
    "redis_commands": "Redis commands per answer",
    "redis_trips_second": "Redis round trips per second of streaming",
    "redis_commands_second": "Redis commands per second of streaming",
    "mysql_statements": "MySQL statements per answer, beside BEGIN, COMMIT, pings",
    "mysql_checkpoints": "checkpoints in 12 s",
}
PEERS: dict[str, str] = {
    "raw": "floor: raw passthrough",
    "httpx": "floor: passthrough with httpx",
    "node": "Node.js, AWS's streaming client",
    "hello": "FastAPI + Mangum hello world",
    "naive": "naive, Valkey and SQLite",
    "naive-servers": "naive, Valkey and MySQL",
    "ours": "**this service**, Valkey and SQLite",
    "ours-servers": "**this service**, Valkey and MySQL",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of ours is at most `most` times another one; without `beside`, at most `most`."""

    figure: str
    most: float
    beside: tuple[str, str] | None = None
    """Figure and peer; `naive` stands for the one on the same stores."""


TARGETS = (
    Target("first_p50", 0.25, ("first_p50", "naive")),
    Target("first_p50", 1.25, ("first_p50", "httpx")),
    Target("far_1_p50", 0.3, ("far_1_p50", "naive")),
    Target("far_3_p50", 0.3, ("far_3_p50", "naive")),
    Target("cpu_flat", 0.35, ("cpu_flat", "httpx")),
    Target("cpu_paced", 0.75, ("cpu_paced", "httpx")),
    Target("many_p50", 2.0, ("many_p50", "raw")),
    Target("many_p99", 4.0, ("many_p99", "raw")),
    Target("many_cpu", 2.2, ("many_cpu", "raw")),
    Target("many_memory", 0.1),
    Target("many_redis_connections", 8),
    Target("cancel_p50", 2.5, ("cancel_p50", "httpx")),
    Target("cancel_p99", 0.5, ("cancel_p99", "naive")),
    Target("cancel_silent_p50", 2.5, ("cancel_silent_p50", "httpx")),
    Target("cancel_silent_p99", 0.5, ("cancel_silent_p99", "naive")),
    Target("cold_pyc", 0.6, ("cold_source", "hello")),
    Target("restored", 0.05, ("cold_source", "hello")),
    Target("redis_trips", 4),
    Target("redis_commands", 14),
    Target("redis_trips_second", 21),
    Target("redis_commands_second", 33),
    Target("mysql_statements", 6),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """What rounds gave."""

    median: float
    least: float
    most: float

    def text(self) -> str:
        """Show it, the whole spread in brackets."""
        if self.least == self.most:
            return shown(self.median)
        return f"{shown(self.median)} ({shown(self.least)} to {shown(self.most)})"


def spread(values: list[float]) -> Spread:
    """Return the median, the least and the most."""
    return Spread(statistics.median(values), min(values), max(values))


def shown(value: float) -> str:
    """Show three digits, thousands separated."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def of_target(samples: Samples, target: Target, peer: str) -> Spread | None:
    """Return our figure, or its ratio round by round; None when either was not measured."""
    ours = samples.get(target.figure, {}).get(peer)
    if not ours:
        return None
    if target.beside is None:
        return spread(ours)
    figure, other = target.beside
    name = peer.replace("ours", "naive") if other == "naive" else other
    theirs = samples.get(figure, {}).get(name)
    if not theirs:
        return None
    return spread([mine / its for mine, its in zip(ours, theirs, strict=False)])
