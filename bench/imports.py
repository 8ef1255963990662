"""What each package costs at a cold start: CPU of a fresh interpreter that imports it, less one that imports nothing.

    python -m bench.imports

With bytecode, in the layer as it is built for this machine's Python; a package's price includes what it needs and what
comes before it in the list has not paid for.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess

from bench import built
from bench.peer import Code

ROUNDS = 7
FIRST = "asyncio"
"""What everything here stands on is taken for granted."""
PACKAGES = (
    "starlette.applications",
    "sqlalchemy",
    "sqlalchemy.dialects.mysql.pymysql",
    "pymysql",
    "hiredis",
    "httpx",
    "httptools",
    "aws_lambda_powertools",
    "mangum",
    "jwt",
    "lambda_stream",
    "chat.wiring",
)
ELSEWHERE = ("fastapi", "awslambdaric.bootstrap")


def price(code: Code, module: str) -> float:
    """Return CPU milliseconds of an interpreter that imports it."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(code.path)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*code.python, "-c", f"import {FIRST}, {module}"], env=environ, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ((after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)) * 1e3


def main() -> None:
    """Print a table."""
    ours, hello = built.ours(has_bytecode=True), built.hello(has_bytecode=True)
    jobs = [(ours, module) for module in (FIRST, *PACKAGES)] + [(hello, module) for module in ELSEWHERE]
    found: dict[str, list[float]] = {module: [] for _, module in jobs}
    for _ in range(ROUNDS):
        for code, module in jobs:
            found[module].append(price(code, module))
    floor = statistics.median(found.pop(FIRST))
    print(f"| import | CPU ms (an interpreter with {FIRST}: {floor:.0f}) |\n|---|---:|")
    for module, values in sorted(found.items(), key=lambda item: -statistics.median(item[1])):
        print(f"| `{module}` | {statistics.median(values) - floor:.0f} |")


if __name__ == "__main__":
    main()
