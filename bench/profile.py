"""`make profile`: where the time of a delta goes, function by function, under three loads.

python -m bench.profile [one|flat|many]
"""

from __future__ import annotations

import asyncio
import pstats
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench import measures
from bench.ai_server import Plan
from bench.measures import plan
from bench.peer import BUILD, ROOT, Code, Peer, ours
from bench.stores import open_stores

SHOWN = 40
SECONDS = 6
LOADS: dict[str, tuple[str, int, Plan]] = {
    "one": ("one answer of 200 deltas a second", 1, plan(200 * SECONDS, 200)),
    "flat": ("one answer as fast as it is taken", 1, plan(50_000)),
    "many": ("50 answers of 30 deltas a second", 50, plan(30 * SECONDS, 30)),
}


async def run(answers: int, load: Plan, output: Path) -> None:
    """Run our function under cProfile."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ai = await stack.enter_async_context(measures.running_ai(sys.executable, ROOT))
        stores = await stack.enter_async_context(open_stores(Path(folder), None, None))
        peer = Peer("ours", ours(stores), stores)
        code = Code(python=(sys.executable, "-m", "cProfile", "-o", str(output)))
        running = await peer.start(stack, ai.address, answers, code)
        asks = [(await running.ask(load))[0] for _ in range(answers)]
        await asyncio.wait([ask.ended for ask in asks])


def show(title: str, deltas: int, output: Path) -> None:
    """Print the functions that take most of the time themselves, in microseconds for each delta."""
    stats = pstats.Stats(str(output)).stats  # type: ignore[attr-defined]  # it has no annotation
    # What was imported costs time once, and is shown by bench.imports.
    rows = sorted(((own, calls, where) for where, (_, calls, own, _, _) in stats.items()), reverse=True)
    print(f"\n{title}: µs and calls for each delta (the profiler itself makes Python functions look dearer)\n")
    for own, calls, (file, line, name) in rows[:SHOWN]:
        place = f"{Path(file).parent.name}/{Path(file).name}:{line} " if line else ""
        print(f"{own * 1e6 / deltas:9.2f} {calls / deltas:8.2f}  {place}{name}")


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or LOADS:
        title, answers, load = LOADS[name]
        output = BUILD / f"profile-{name}.pstats"
        asyncio.run(run(answers, load, output))
        show(title, answers * load.count, output)


if __name__ == "__main__":
    main()
