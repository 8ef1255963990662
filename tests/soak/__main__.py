"""`make soak`: streams for minutes under faults, then the invariants' full counts; exit code 1 if a promise broke."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from tests.kit.service import ROOT
from tests.soak.session import Outcome, Wanted, soak

_SHOWN = 40


def main() -> int:
    """Run what the arguments want."""
    options = _read()
    print(f"seed {options.seed}: {options.streams} streams for {options.minutes:g} minutes", flush=True)
    wanted = Wanted(
        options.minutes * 60, options.streams, options.seed, 1 / options.pace, lambda line: print(line, flush=True)
    )
    outcome = asyncio.run(soak(wanted))
    _tell(outcome)
    if options.into:
        options.into.write_text(json.dumps({"broken": outcome.broken, **outcome.figures}, indent=2) + "\n")
    counts = 0 if options.skip_counts else _full_counts()
    return 1 if outcome.broken or counts else 0


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=100, help="at once")
    parser.add_argument("--pace", type=float, default=10, help="deltas a second that the AI says in each stream")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="repeats what was drawn")
    parser.add_argument("--skip-counts", action="store_true", help="only the streams, not the invariants' full counts")
    parser.add_argument("--into", type=Path, help="file for the figures as JSON")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    print()
    for name, value in outcome.figures.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"{name:32} {shown}")
    print(f"{'broken promises':32} {len(outcome.broken)}", flush=True)
    for line in outcome.broken[:_SHOWN]:
        print(f"  {line}")
    if outcome.broken:
        print(f"again: make soak ARGS='--seed {outcome.figures['seed']}'", flush=True)


def _full_counts() -> int:
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "tests/invariants"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"FULL_COUNTS": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
