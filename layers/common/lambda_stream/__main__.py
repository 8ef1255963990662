"""`python -m lambda_stream`: what a Lambda runtime's bootstrap is."""

from __future__ import annotations

import asyncio
import os
import sys

from lambda_stream.process import run


def main() -> int:
    """Run until told to stop; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a log line must not wait for the next one
    return asyncio.run(run(os.environ))


if __name__ == "__main__":
    sys.exit(main())
