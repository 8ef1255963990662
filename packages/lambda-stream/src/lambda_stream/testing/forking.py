"""`python -m lambda_stream.testing.forking FD`: lambda_stream, which at its snapshot forks a copy for each restore.

Over the socket FD it says `ready` at the snapshot; then it reads a Runtime API's address a line, forks a copy that goes
on there, and answers with its pid. It ends when the socket does.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import sys
from typing import Any

from lambda_stream._process import run_at
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._settings import Timeouts


class ForkingRuntimeApi(RuntimeApi):
    """At /restore/next the process stands still, as its snapshot does, and its copies go on."""

    control: socket.socket

    async def restore_next(self) -> None:
        address = stand_still(self.control)
        os.environ["AWS_LAMBDA_RUNTIME_API"] = address
        host, _, port = address.rpartition(":")
        super().__init__(host, int(port), self.timeouts)
        await super().restore_next()


def stand_still(control: socket.socket) -> str:
    """Fork a copy for each address that is read; return, in a copy, with its address."""
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    sys.stdout.flush()
    with control.makefile("rw", buffering=1) as lines:
        lines.write("ready\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                take_along(loop)
                control.close()
                return line.strip()
            lines.write(f"{pid}\n")
    os._exit(0)


def take_along(loop: Any) -> None:
    """Give this copy's event loop its own of what fork left shared with the original: epoll, wake-up pipe, threads."""
    old = loop._selector
    loop._selector = selectors.DefaultSelector()
    for key in list(old.get_map().values()):
        loop._selector.register(key.fd, key.events, key.data)
    old.close()
    loop._close_self_pipe()
    loop._make_self_pipe()
    signal.set_wakeup_fd(loop._csock.fileno())
    loop._default_executor = None
    asyncio._set_running_loop(loop)


async def main() -> int:
    """Run until told to stop; return the exit code."""
    ForkingRuntimeApi.control = socket.socket(fileno=int(sys.argv[1]))
    return await run_at(ForkingRuntimeApi, os.environ, Timeouts())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
