"""Tables of what was measured, as Markdown; all of it as JSON."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import cost
from bench.figures import FIGURES, PEERS, TARGETS, Samples, of_target, shown, spread
from bench.plot import plot

BEGIN, END = "<!-- bench: what follows is written by `make bench` -->", "<!-- bench: end -->"
PICTURE = "performance.svg"
SUMMARY = {
    "first_p50": "added to the first delta, ms",
    "cpu_flat": "CPU per delta, µs",
    "many_p50": "200 streams in one process, 30 deltas a second each: added to a delta, p50, ms",
    "many_p99": "the same, p99, ms",
    "many_memory": "memory per further stream, MB",
    "cancel_p50": "from a cancel until the AI's connection is closed, p50, ms",
    "cancel_silent_p50": "the same while the AI is silent",
}
SUMMARY_PEERS = ("ours-servers", "naive-servers", "raw")


def machine() -> str:
    """Name the machine by its kind."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return f"{model}, {cores} virtual cores, Linux, Python {platform.python_version()}"


def figures_table(samples: Samples) -> str:
    """Return medians, one row a figure and one column a peer."""
    names = [name for name in PEERS if any(name in values for values in samples.values())]
    rows = ["| medians | " + " | ".join(PEERS[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for figure, title in FIGURES.items():
        values = samples.get(figure)
        if values:
            cells = [shown(spread(values[name]).median) if name in values else "" for name in names]
            rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def targets_table(samples: Samples) -> str:
    """Return each target with our ratio to what it is measured by, and its spread over the rounds."""
    rows = ["| target | on Valkey and SQLite | on Valkey and MySQL |", "|---|---|---|"]
    for target in TARGETS:
        cells = []
        for peer in ("ours", "ours-servers"):
            found = of_target(samples, target, peer)
            cells.append(
                "" if found is None else f"{found.text()}{'' if found.median <= target.most else ' **missed**'}"
            )
        if not any(cells):
            continue  # it was not measured
        by = "" if target.beside is None else f" × {PEERS[target.beside[1]].removesuffix(', Valkey and SQLite')}"
        if target.beside is not None and target.beside[0] != target.figure:
            by += f" ({FIGURES[target.beside[0]].rpartition(', ')[2]})"
        rows.append(f"| {FIGURES[target.figure]}: ≤ {target.most:g}{by} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def document(samples: Samples, rounds: int) -> dict[str, Any]:
    """Return everything, fit for JSON."""
    return {
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "samples": {
            figure: {peer: [round(v, 4) for v in values] for peer, values in of.items()}
            for figure, of in samples.items()
        },
    }


def of_document(found: dict[str, Any]) -> str:
    """Return all tables for what `document` returned."""
    samples: Samples = found["samples"]
    head = f"{found['machine']}; {found['at'][:10]}; medians of {found['rounds']} rounds in which the peers take turns."
    return "\n\n".join([head, figures_table(samples), targets_table(samples), cost.table(samples)])


def summary(found: dict[str, Any]) -> str:
    """Return README's table: what users of a service notice, on Valkey and MySQL."""
    samples: Samples = found["samples"]
    rows = ["| | this service | naive | floor |", "|---|---:|---:|---:|"]
    for figure, title in SUMMARY.items():
        values = samples.get(figure, {})
        cells = [shown(spread(values[name]).median) if values.get(name) else "" for name in SUMMARY_PEERS]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    head = f"Medians of {found['rounds']} rounds on {found['machine']}, {found['at'][:10]}, with Valkey and MySQL:"
    return "\n\n".join([head, "\n".join(rows)])


def write(samples: Samples, rounds: int, folder: Path) -> None:
    """Write table, JSON and picture into a folder; README's table too if it stands beside that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = document(samples, rounds)
    (folder / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / PICTURE).write_text(plot(samples))
    tables = of_document(found)
    page = folder / "performance.md"
    if not _put(page, tables):
        page.write_text(tables + "\n")
    _put(folder.parent / "README.md", summary(found))
    print(tables, file=sys.stdout)


def _put(page: Path, tables: str) -> bool:
    """Put `tables` between the marks of a page, if it has them."""
    if not page.exists() or BEGIN not in page.read_text():
        return False
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}")
    return True
