"""One soak from beginning to end: brings everything up, streams, disturbs, judges, and says what came of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.kit.databases import fresh_mysql
from tests.kit.proxy import Proxy
from tests.kit.redis_servers import own_server
from tests.kit.service import ROOT, Service, running
from tests.soak.checks import leaks
from tests.soak.faults import disturb
from tests.soak.gauges import MAX_GROWTH, SLACK, Gauges, busy
from tests.soak.rows import Rows
from tests.soak.streams import Clients, Tally

LIMITS = (
    "CHAT_MESSAGES_PER_MINUTE",
    "CHAT_MAX_ACTIVE_ANSWERS_PER_USER",
    "CHAT_MAX_STREAMS_PER_USER",
    "CHAT_CHATS_PER_MINUTE",
)
LINE_SECONDS = 10.0
MEMORY_JUDGED_FROM_SECONDS = 170
"""In shorter runs a process is still filling its pools and caches."""
_SAMPLE_SECONDS = 1.0
_SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """How long, how much, from which seed."""

    seconds: float
    streams: int
    seed: int
    pace_seconds: float
    say: Callable[[str], None] = print


@dataclass(slots=True)
class Outcome:
    """Figures, and the promises that were broken."""

    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


async def soak(wanted: Wanted) -> Outcome:
    """Run it on the servers in REDIS_URL and MYSQL_URL, or on embedded ones."""
    async with AsyncExitStack() as stack:
        proxies, rows_url, overrides = await _stores(stack, wanted)
        ai_port = stack.enter_context(_ai())
        overrides |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{ai_port}/v1", "OPENAI_API_KEY": "soak"}
        service = await stack.enter_async_context(_running(overrides))
        rows = Rows(rows_url or f"sqlite:///{service.state / 'chat.sqlite3'}")
        stack.callback(rows.close)
        clients = Clients(urlsplit(service.url).port or 0, rows, wanted.seed, wanted.pace_seconds)
        gauges = Gauges(service, ai_port, proxies)
        return await _Session(wanted, service, proxies, clients, gauges, rows).run()


async def _stores(stack: AsyncExitStack, wanted: Wanted) -> tuple[dict[str, Proxy], str, dict[str, str]]:
    redis_url = os.environ.get("REDIS_URL") or stack.enter_context(own_server()).url
    proxies = {"redis": await stack.enter_async_context(Proxy(redis_url))}
    overrides = {"REDIS_URL": proxies["redis"].url}
    rows_url = ""
    if server_url := os.environ.get("MYSQL_URL"):
        rows_url = stack.enter_context(fresh_mysql(server_url))
        proxies["mysql"] = await stack.enter_async_context(Proxy(rows_url))
        overrides["MYSQL_URL"] = proxies["mysql"].url
    # Two processes carry the streams and a third their watchers; the limits are not what is tried here.
    overrides["AWS_LAMBDA_MAX_CONCURRENCY"] = str(max(wanted.streams // 2, 4))
    overrides |= dict.fromkeys(LIMITS, "0")
    return proxies, rows_url, overrides


@contextmanager
def _ai():
    command = [sys.executable, "-m", "tests.soak.ai"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(("layers/common", "packages/lambda-stream/src", "."))}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


@asynccontextmanager
async def _running(overrides: dict[str, str]) -> AsyncIterator[Service]:
    context = running(overrides)
    service = await asyncio.to_thread(context.__enter__)
    try:
        yield service
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@dataclass
class _Session:
    wanted: Wanted
    service: Service
    proxies: dict[str, Proxy]
    clients: Clients
    gauges: Gauges
    rows: Rows

    async def run(self) -> Outcome:
        wanted, began, cpu = self.wanted, time.monotonic(), busy()
        until = began + wanted.seconds
        every = max(0.7, min(30.0, wanted.seconds / 10))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(began))
            await asyncio.gather(
                *(self.clients.slot(index, until) for index in range(wanted.streams)),
                disturb(self.service, self.proxies, self.clients.faults, Random(wanted.seed), every, until),
            )
            watching.cancel()
        busy_ticks, ticks = busy(cpu)
        rest = await self._settle()
        broken = [*self.clients.tally.broken, *rest, *self._leaks(), *self.gauges.grown_connections()]
        if wanted.seconds >= MEMORY_JUDGED_FROM_SECONDS:
            grown = self.gauges.grown().items()
            broken += [f"memory of {name} grew by {part:.1%}" for name, part in grown if part > MAX_GROWTH]
        return Outcome(self._figures(time.monotonic() - began, busy_ticks / ticks), broken)

    async def _watch(self, began: float) -> None:
        line_at, deltas, seen = began + LINE_SECONDS, 0, 0
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            await asyncio.to_thread(self.gauges.sample)
            if time.monotonic() >= line_at:
                tally = self.clients.tally
                self.wanted.say(self._line(time.monotonic() - began, tally, deltas, seen))
                line_at, deltas, seen = line_at + LINE_SECONDS, tally.deltas, len(tally.gaps)

    def _line(self, seconds: float, tally: Tally, deltas: int, seen: int) -> str:
        gaps = percentiles(tally.gaps[seen:])
        faults = " ".join(fault.kind for fault in self.clients.faults if time.monotonic() - fault.began < LINE_SECONDS)
        return (
            f"{seconds:4.0f} s  {tally.running} streams  {_words(tally.statuses)}  {tally.deltas - deltas} deltas, gap "
            f"p50 {gaps['p50']} p99 {gaps['p99']} ms  MiB {_words(self.gauges.totals())}  connections "
            f"{_words(self.gauges.open())}  broken {len(tally.broken)}  {faults}"
        )

    async def _settle(self) -> list[str]:
        """Wait until everything is back at rest, and say what does not come to rest."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while unrest := await self._unrest():
            if time.monotonic() > deadline:
                return unrest
            await asyncio.sleep(_SAMPLE_SECONDS)
        return []

    async def _unrest(self) -> list[str]:
        found = [f"answer {message_id} is still active" for _, message_id in await self.rows.active()]
        await asyncio.to_thread(self.gauges.sample)
        open_now, processes = self.gauges.open(), len(self.service.pids())
        if open_now["ai"]:
            found.append(f"{open_now['ai']} connections to the AI are left")
        if open_now["redis"] > 2 * processes + SLACK:
            found.append(f"{open_now['redis']} connections to Redis are left in {processes} processes")
        return found

    def _leaks(self) -> list[str]:
        logs = {path.name: path.read_text(errors="replace") for path in (self.service.state / "logs").glob("*.log")}
        logs["stderr"] = self.service.errors
        return [f"{name} contains text of a message: {line}" for name, log in logs.items() for line in leaks(log)]

    def _figures(self, seconds: float, busy_part: float) -> dict[str, Any]:
        tally, logs = self.clients.tally, self.service.state / "logs"
        return {
            "seed": self.wanted.seed,
            "seconds": round(seconds),
            "streams at once": self.wanted.streams,
            "deltas a second and stream": round(1 / self.wanted.pace_seconds, 1),
            "stores": ", ".join([*self.proxies, *(["SQLite"] if "mysql" not in self.proxies else [])]),
            "streams": sum(tally.kinds.values()),
            "of these undisturbed": tally.undisturbed,
            "by status": dict(tally.statuses),
            "by kind": dict(sorted(tally.kinds.items())),
            "deltas": tally.deltas,
            "gap between deltas, ms": percentiles(tally.gaps),
            "gap in undisturbed streams, ms": percentiles(tally.quiet_gaps),
            "faults": _counted([fault.kind for fault in self.clients.faults]),
            "asked again": dict(tally.refusals),
            "connections broken by kills": tally.breaks,
            "memory at the end, MiB": self.gauges.totals(),
            "memory growth after warm-up": self.gauges.grown(),
            "connections, most": {name: max(counts) for name, counts in self.gauges.connections.items()},
            "connections at rest": self.gauges.open(),
            "machine busy": f"{busy_part:.0%}",
            "log, MiB": round(sum(path.stat().st_size for path in logs.glob("*.log")) / 2**20, 1),
        }


def percentiles(gaps: Any) -> dict[str, int]:
    """Return the median, the 99th percentile and the most, in milliseconds."""
    ordered = sorted(gaps) or [0.0]
    return {
        "p50": round(ordered[len(ordered) // 2] * 1000),
        "p99": round(ordered[len(ordered) * 99 // 100] * 1000),
        "most": round(ordered[-1] * 1000),
    }


def _counted(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in dict.fromkeys(words)}


def _words(counts: Any) -> str:
    return " ".join(f"{name} {count}" for name, count in counts.items())
