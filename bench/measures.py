"""The measurements. Each takes running peers and returns samples by the name of the peer."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bench.ai_server import Plan
from bench.peer import Code, Peer, Running

PACED_RATE, PACED_SECONDS = 200, 2
MANY, MANY_RATE, MANY_SECONDS = 200, 30, 8
CANCEL_RATE = 30
FIRST_BLOCK = 10
THINKING_SECONDS = 0.03
SILENCE_SECONDS = 2.0

_tags = itertools.count()


class AI:
    """The AI's process: its address, and who was left when."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address
        self._left: dict[str, asyncio.Future[int]] = {}
        self._reading = asyncio.create_task(self._read())

    def left(self, tag: str) -> asyncio.Future[int]:
        """Return when, in nanoseconds of the monotonic clock, the answer's connection was closed before its end."""
        return self._left.setdefault(tag, asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            tag, moment = line.decode().split()
            future = self.left(tag)
            if not future.done():
                future.set_result(int(moment))

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()
        self._reading.cancel()


@asynccontextmanager
async def running_ai(python: str, root: Path) -> AsyncIterator[AI]:
    """Start the AI."""
    process = await asyncio.create_subprocess_exec(
        python, "-m", "bench.ai_server", cwd=root, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    ai = AI(process, f"127.0.0.1:{int(await process.stdout.readline())}")
    try:
        yield ai
    finally:
        await ai.stop()


def plan(count: int, rate: float = 0.0, silent_after: int = 0) -> Plan:
    """Return a plan with a tag of its own."""
    return Plan(f"t{next(_tags)}", count, rate, silent_after, SILENCE_SECONDS if silent_after else 0.0)


async def first_delta(running: Mapping[str, Running], times: int) -> dict[str, list[float]]:
    """Milliseconds that the first delta takes beside the AI's thinking, by the AI's clock; the peers take turns of ten.

    The AI thinks, as every AI does, so that what a service does meanwhile holds up nobody.
    """
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(times // FIRST_BLOCK):
        for name, peer in running.items():
            for number in range(FIRST_BLOCK + 2):
                ask, _ = await peer.ask(replace(plan(3, PACED_RATE), thinking_seconds=THINKING_SECONDS))
                milliseconds = (await peer.first(ask) - ask.began_ns - ask.thought_ns) / 1e6
                await ask.ended
                if number >= 2:
                    found[name].append(milliseconds)
    return found


async def cpu_flat(peer: Running, deltas: int) -> float:
    """CPU microseconds for each delta when they come as fast as they are taken."""
    before = peer.child.cpu_ns()
    ask, _ = await peer.ask(plan(deltas))
    await ask.ended
    return (peer.child.cpu_ns() - before) / 1e3 / deltas


async def cpu_paced(peer: Running) -> float:
    """CPU microseconds for each delta of a single answer of 200 a second."""
    ask, _ = await peer.ask(plan(PACED_RATE * PACED_SECONDS, PACED_RATE))
    await peer.first(ask)
    before, ask.is_timed = peer.child.cpu_ns(), True
    await asyncio.sleep(PACED_SECONDS - 0.5)
    spent, deltas = peer.child.cpu_ns() - before, ask.deltas
    await ask.ended
    return spent / 1e3 / deltas


async def cancel(running: Mapping[str, Running], ai: AI, times: int, is_silent: bool) -> dict[str, list[float]]:
    """Milliseconds from a cancel, at any moment of a streaming or of a silent answer, to the AI's connection closed."""
    found: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(times + 1):
        for name, peer in running.items():
            asked = plan(600, CANCEL_RATE, 1 if is_silent else 0)
            ask, stop = await peer.ask(asked)
            await peer.first(ask)
            await asyncio.sleep(0.05 + random.random() * (1.0 if is_silent else 0.1))  # a moment
            began = asyncio.get_running_loop().time()
            await stop()
            async with asyncio.timeout(15):
                closed = await ai.left(asked.tag) / 1e6 - began * 1e3
                await ask.ended
            if turn:
                found[name].append(closed)
    return found


async def many(peer: Peer, ai: AI) -> dict[str, float]:
    """What 200 answers of 30 deltas a second cost in one process, and how late their deltas are."""
    async with AsyncExitStack() as stack:
        running = await peer.start(stack, ai.address, MANY, Code())
        warm, _ = await running.ask(plan(60, MANY_RATE))
        await running.first(warm)
        alone = running.child.resident_bytes()
        asks = []
        for _ in range(MANY):
            ask, _ = await running.ask(plan(MANY_RATE * MANY_SECONDS, MANY_RATE))
            asks.append(ask)
            await asyncio.sleep(0.004)
        await asyncio.wait([ask.first for ask in asks], timeout=30)
        await asyncio.sleep(1)
        for ask in asks:
            ask.is_timed = True
        before = running.child.cpu_ns()
        await asyncio.sleep(MANY_SECONDS - 4)
        spent = running.child.cpu_ns() - before
        for ask in asks:
            ask.is_timed = False
        delays = [delay / 1e6 for ask in asks for delay in ask.delays_ns]
        found = {
            "many_cpu": spent / 1e3 / max(len(delays), 1),
            "many_memory": (running.child.resident_bytes() - alone) / (1 << 20) / (MANY - 1),
            "many_p50": quantile(delays, 0.5),
            "many_p99": quantile(delays, 0.99),
        }
        if peer.stores is not None:
            found["many_redis_connections"] = running.child.connections_to(peer.stores.redis_port)
        await asyncio.wait([ask.ended for ask in asks], timeout=30)
        return found


async def cold(peer: Peer, ai: AI, code: Code) -> float:
    """CPU milliseconds from the start of the process to its first delta."""
    async with AsyncExitStack() as stack:
        running = await peer.start(stack, ai.address, 1, code)
        ask, _ = await running.ask(plan(3))
        await running.first(ask)
        spent = running.child.cpu_ns() / 1e6
        await ask.ended
        return spent


def quantile(values: list[float], part: float) -> float:
    """Return the smallest value that at least `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else math.nan
