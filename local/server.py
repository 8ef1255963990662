"""HTTP servers inside this process: uvicorn without its signal handlers, on sockets that are already open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import uvicorn
from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
"""The only address that anything here listens on."""

_BACKLOG = 1024


def listen(port: int = 0) -> socket.socket:
    """Open a listening socket; callers wait in its queue until somebody serves it.

    Raises:
        OSError: the port is taken or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port of a listening socket."""
    port: int = listener.getsockname()[1]
    return port


class _Server(uvicorn.Server):
    """Leaves signals alone, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator there
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@asynccontextmanager
async def serving(
    app: ASGIApp, listeners: Sequence[socket.socket], idle_seconds: int, grace_seconds: int
) -> AsyncIterator[None]:
    """Serve on these sockets, and close them at the end.

    A connection without a request is kept for `idle_seconds`, running responses are cut `grace_seconds` after the end.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(list(listeners)))
    try:
        await server.is_up.wait()
        yield
    finally:
        server.should_exit = True
        await task
