"""Snapshots, played by fork: a function is initialized once, and any number of copies go on from there.

    async with Snapshot.of(FunctionProcess("app.app", task_root), log) as snapshot:
        async with snapshot.restored() as one, snapshot.restored() as two:
            one.api.invoke(event)

Each copy speaks to a Runtime API of its own. What fork does not play: threads are not copied, and descriptors that were
open at the snapshot are shared between the copies; on Lambda what they lead to is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lambda_stream.testing._process import FunctionProcess
from lambda_stream.testing._server import RuntimeApi

PROGRAM = "lambda_stream.testing.forking"
_PATIENCE_SECONDS = 30.0


class NoSnapshot(RuntimeError):
    """The function ended before its snapshot could be taken; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A copy that runs."""

    api: RuntimeApi
    pid: int


class Snapshot:
    """A function at its snapshot."""

    def __init__(self, api: RuntimeApi, pid: int, control: socket.socket) -> None:
        self.api = api
        """What the function spoke to while it was initialized."""
        self.pid = pid
        """Of the process that stands still at the snapshot."""
        self._control = control
        self._restoring = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def of(cls, function: FunctionProcess, log: Path) -> AsyncIterator[Snapshot]:
        """Initialize a function, whose command must end with `-m lambda_stream`; it and all copies print into `log`.

        Raises:
            NoSnapshot: it ended before.
        """
        control, theirs = socket.socketpair()
        with control, theirs, log.open("ab") as output:
            control.setblocking(False)
            async with RuntimeApi() as api:
                environ = {
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    **function.environ,
                    "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
                }
                command = (*function.command[:-1], PROGRAM, str(theirs.fileno()))
                process = await asyncio.create_subprocess_exec(
                    *command, env=environ, cwd="/", stdout=output, stderr=output, pass_fds=[theirs.fileno()]
                )
                theirs.close()
                snapshot = cls(api, process.pid, control)
                try:
                    if not await snapshot._line():
                        raise NoSnapshot(log.read_text(errors="replace")[-3000:])  # noqa: ASYNC240  # it is over
                    yield snapshot
                finally:
                    control.close()
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()

    @asynccontextmanager
    async def restored(self) -> AsyncIterator[Restored]:
        """Restore a copy; it is killed at the end."""
        async with RuntimeApi() as api:
            async with self._restoring:
                await asyncio.get_running_loop().sock_sendall(self._control, f"{api.address}\n".encode())
                pid = int(await self._line())
            try:
                yield Restored(api, pid)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _line(self) -> bytes:
        """Read a line of the function's; empty when it has ended."""
        received = b""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not received.endswith(b"\n"):
                data = await asyncio.get_running_loop().sock_recv(self._control, 64)
                if not data:
                    return b""
                received += data
        return received
