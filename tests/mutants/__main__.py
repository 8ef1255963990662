"""`make mutants`: takes each mechanism out of a copy of this tree and demands that its test fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.kit.service import ROOT
from tests.mutants.mechanisms import MUTANTS, Mutant

_COPIES = 2
_SECONDS = 120
_ALL_PASSED, _ONE_FAILED = 0, 1  # pytest's exit codes
_OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "--timeout", "30"]


def main(words: list[str]) -> int:
    """Try those whose names contain one of `words`, or all; the exit code is 1 if a test noticed nothing."""
    wanted = [one for one in MUTANTS if not words or any(word in one.mechanism for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(_COPIES) as threads:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(_COPIES):
            copies.put(_copy(Path(folder) / str(number)))
        if _run(ROOT, {one.test for one in wanted}) != _ALL_PASSED:
            print("with every mechanism in its place these tests must pass: make test")
            return 1
        noticed = sum(threads.map(lambda one: _is_noticed(copies, one), wanted))
    print(f"{noticed} of {len(wanted)} noticed")
    return 0 if noticed == len(wanted) else 1


def _copy(target: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def _is_noticed(copies: SimpleQueue[Path], mutant: Mutant) -> bool:
    copy = copies.get()
    path = copy / mutant.file
    code = path.read_text()
    path.write_text(code.replace(mutant.old, mutant.new))
    try:
        exit_code = _run(copy, [mutant.test])
    finally:
        path.write_text(code)
        copies.put(copy)
    is_noticed = exit_code == _ONE_FAILED
    told = "noticed" if is_noticed else f"NOT NOTICED (pytest: {exit_code})"
    print(f"{told:12} {mutant.mechanism}\n{'':12} {mutant.test}", flush=True)
    return is_noticed


def _run(tree: Path, tests: Iterable[str]) -> int:
    environ = os.environ | {
        "PYTHONPATH": f"layers/common{os.pathsep}packages/lambda-stream/src",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", *_OPTIONS, *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _ONE_FAILED
    if re.search(rb"\d+ (passed|failed|error)", done.stdout) is None:
        return -1  # nothing but skipped, which would show nothing
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
