"""HTTP servers inside this process: uvicorn without its signal handlers, on sockets that are already open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOPBACK = "127.0.0.1"
"""The only address that anything here listens on."""

_BACKLOG = 1024
_MAX_HEAD_BYTES = 65_536


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


class BoundedHeads(HttpToolsProtocol):
    """Cuts off a client whose request does not come to its body, or to its end after it.

    uvicorn bounds a request's head with h11 only. Here all counts that is neither body nor the end of something:
    target, headers, chunk extensions and trailers.
    """

    _unproductive = 0
    _has_moved = False

    def data_received(self, data: bytes) -> None:
        """Count what brings the request no further."""
        self._has_moved = False
        super().data_received(data)
        self._unproductive = 0 if self._has_moved else self._unproductive + len(data)
        if self._unproductive > _MAX_HEAD_BYTES and self.transport is not None:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._has_moved = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of the body is there."""
        self._has_moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._has_moved = True
        super().on_message_complete()


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
        http=BoundedHeads,
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
