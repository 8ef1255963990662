"""`python -m lambda_stream`: what a Lambda runtime's bootstrap is."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from lambda_stream._log import logger
from lambda_stream._process import run

_LEAVE_SECONDS = 1.0


def main() -> int:
    """Run until told to stop; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a log line must not wait for the next one
    return asyncio.run(_run())


async def _run() -> int:
    """Run, and see to it that the process ends then: tasks and threads of the application might keep it for ever."""
    code = await run(os.environ)
    timer = threading.Timer(_LEAVE_SECONDS, _leave, [code])
    timer.daemon = True
    timer.start()
    return code


def _leave(code: int) -> None:
    logger.error("the application does not end; the process ends without it")
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
