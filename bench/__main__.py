"""`make bench`: everything side by side; see docs/performance.md. Linux only.

python -m bench [--rounds N] [--peers NAME,NAME] [--skip first,far,cpu,many,cancel,cold,traffic] [--into FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import built, measures, node_client, report, traffic
from bench.figures import PEERS, Samples
from bench.measures import AI, quantile
from bench.peer import BUILD, ROOT, Code, Peer, Running, hello, naive, node, ours, passthrough, restored
from bench.stores import Stores, open_stores
from tests.kit.proxy import Proxy

OURS = ("ours", "ours-servers")
PARTS = ("first", "far", "cpu", "many", "cancel", "cold", "traffic")
FAR_MILLISECONDS, FAR_TIMES = (1, 3), 30
FIRST_TIMES, PACED_TIMES, CANCEL_TIMES, SILENT_TIMES = 60, 3, 15, 6


def peers_on(embedded: Stores, given: Stores | None) -> list[Peer]:
    """Return what is measured, the floors first."""
    found = [
        Peer("raw", passthrough("raw_passthrough")),
        Peer("httpx", passthrough("httpx_passthrough")),
    ]
    if node_client.is_there():
        found.append(Peer("node", node(), can_cancel=False, can_share=False))
    else:
        print("without Node.js: build AWS's client with `python -m bench.node_client`", file=sys.stderr)
    for stores, kind in ((embedded, ""), (given, "-servers")):
        if stores is not None:
            found.append(Peer(f"naive{kind}", naive(stores), stores, flat_deltas=4_000))
            found.append(Peer(f"ours{kind}", ours(stores), stores))
    return found


async def round_of(peers: list[Peer], ai: AI, skip: set[str], samples: Samples) -> None:
    """Measure everything once, the peers taking turns."""
    async with AsyncExitStack() as stack:
        running: dict[str, Running] = {}
        for peer in peers:
            running[peer.name] = await peer.start(stack, ai.address, 4 if peer.can_share else 1, Code())
        if "first" not in skip:
            _note(samples, "first", await measures.first_delta(running, FIRST_TIMES))
        if "cpu" not in skip:
            await cpu(peers, running, samples)
        if "cancel" not in skip:
            able = {peer.name: running[peer.name] for peer in peers if peer.can_cancel}
            _note(samples, "cancel", await measures.cancel(able, ai, CANCEL_TIMES, is_silent=False))
            _note(samples, "cancel_silent", await measures.cancel(able, ai, SILENT_TIMES, is_silent=True))
    if "many" not in skip:
        for peer in peers:
            if peer.can_share:
                _add(samples, peer.name, await measures.many(peer, ai))


async def far(stores: Stores, ai: AI, samples: Samples) -> None:
    """Measure the first delta where the stores are a network away, as they are where it is deployed."""
    for milliseconds in FAR_MILLISECONDS:
        async with AsyncExitStack() as stack:
            redis, mysql = [await stack.enter_async_context(Proxy(url)) for url in (stores.redis_url, stores.mysql_url)]
            redis.delay_seconds = mysql.delay_seconds = milliseconds / 1000
            away = replace(stores, redis_url=redis.url, mysql_url=mysql.url)
            starts = {"naive-servers": naive(away), "ours-servers": ours(away)}
            running = {name: await start(stack, ai.address, 4, Code()) for name, start in starts.items()}
            found = await measures.first_delta(running, FAR_TIMES)
            _add_all(samples, f"far_{milliseconds}_p50", {name: quantile(each, 0.5) for name, each in found.items()})


async def cpu(peers: list[Peer], running: dict[str, Running], samples: Samples) -> None:
    """Measure what a delta costs."""
    for peer in peers:
        samples["cpu_flat"][peer.name].append(await measures.cpu_flat(running[peer.name], peer.flat_deltas))
    paced: dict[str, list[float]] = defaultdict(list)
    for _ in range(PACED_TIMES):
        for peer in peers:
            paced[peer.name].append(await measures.cpu_paced(running[peer.name]))
    _add_all(samples, "cpu_paced", {name: median(values) for name, values in paced.items()})


def _note(samples: Samples, figure: str, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        samples[f"{figure}_p50"][name].append(quantile(values, 0.5))
        samples[f"{figure}_p99"][name].append(quantile(values, 0.99))


def _add_all(samples: Samples, figure: str, found: dict[str, float]) -> None:
    for name, value in found.items():
        samples[figure][name].append(value)


def _add(samples: Samples, name: str, found: dict[str, float]) -> None:
    for figure, value in found.items():
        samples[figure][name].append(value)


async def cold_starts(peers: list[Peer], ai: AI, samples: Samples, times: int) -> None:
    """Start everything that is deployed as a zip, with and without bytecode."""
    greeting = Peer("hello", hello())
    plain = {peer.name: peer for peer in peers}
    jobs: list[tuple[str, Peer, Code]] = []
    for has_bytecode, figure in ((True, "cold_pyc"), (False, "cold_source")):
        jobs.append((figure, greeting, await asyncio.to_thread(built.hello, has_bytecode)))
        code = await asyncio.to_thread(built.ours, has_bytecode)
        jobs += [(figure, plain[name], code) for name in ("raw", "httpx", "ours", "ours-servers") if name in plain]
        if has_bytecode:
            for name in OURS:
                if name in plain and (stores := plain[name].stores) is not None:
                    jobs.append(("restored", Peer(name, restored(stores)), code))
    if "node" in plain:
        jobs.append(("cold_pyc", plain["node"], Code()))
    for _ in range(times):
        for figure, peer, code in jobs:
            samples[figure][peer.name].append(await measures.cold(peer, ai, code))


async def measure(rounds: int, only: set[str], skip: set[str]) -> Samples:
    """Measure everything in as many rounds."""
    samples: Samples = defaultdict(lambda: defaultdict(list))
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ai = await stack.enter_async_context(measures.running_ai(sys.executable, ROOT))
        embedded = await stack.enter_async_context(open_stores(folder, None, None))
        redis, mysql = os.environ.get("REDIS_URL"), os.environ.get("MYSQL_URL")
        given = await stack.enter_async_context(open_stores(folder, redis, mysql)) if redis and mysql else None
        peers = [peer for peer in peers_on(embedded, given) if not only or peer.name in only]
        if "cold" not in skip:
            await cold_starts(peers, ai, samples, rounds)
        for peer in peers if "traffic" not in skip else ():
            if peer.name.startswith("ours") and peer.stores is not None:
                _add(samples, peer.name, await traffic.of_answers(peer.stores, ai))
        for number in range(rounds):
            began = time.monotonic()
            await round_of(peers, ai, skip, samples)
            if given is not None and "far" not in skip:
                await far(given, ai, samples)
            print(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="")
    parser.add_argument("--skip", default="", help=",".join(PARTS))
    parser.add_argument("--into", type=Path, default=BUILD / "results", help="where table, JSON and picture go")
    arguments = parser.parse_args()
    only, skip = (set(filter(None, text.split(","))) for text in (arguments.peers, arguments.skip))
    if unknown := (only - set(PEERS)) | (skip - set(PARTS)):
        parser.error(f"what is {min(unknown)}?")
    samples = asyncio.run(measure(arguments.rounds, only, skip))
    report.write(samples, arguments.rounds, arguments.into)


if __name__ == "__main__":
    main()
