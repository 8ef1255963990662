"""`python -m lambda_stream` as a real process at an emulated Runtime API."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from lambda_stream.testing._server import RuntimeApi


class FunctionProcess:
    """How a function is started: as Lambda starts it, with nothing of this process's environment but PATH."""

    def __init__(
        self,
        handler: str,
        task_root: Path | str,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "lambda_stream"),
    ) -> None:
        self.command = tuple(command)
        self.environ = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(Path(__file__).parents[2]),  # where this package is
            "_HANDLER": handler,
            "LAMBDA_TASK_ROOT": str(task_root),
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **(environ or {}),
        }

    @asynccontextmanager
    async def running(self, api: RuntimeApi) -> AsyncIterator[Process]:
        """Start it at `api`; its output is in the process's pipes. It is killed at the end if it is still there."""
        environ = {"AWS_LAMBDA_RUNTIME_API": api.address} | self.environ
        process = await asyncio.create_subprocess_exec(*self.command, env=environ, stdout=PIPE, stderr=PIPE, cwd="/")
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
