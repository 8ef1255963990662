"""`lambda_stream`'s loop in this process, around an application, against the emulated Runtime API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from lambda_stream._event_handler import EventHandler, Handler
from lambda_stream._handler import Application
from lambda_stream._invocation_handler import InvocationHandler
from lambda_stream._log import configure
from lambda_stream._runtime_api import RuntimeApi as Client
from lambda_stream._settings import Function, Timeouts
from lambda_stream._worker_pool import WorkerPool
from lambda_stream.testing import RuntimeApi

QUICK = Timeouts(deadline_margin=0.05, unwind=0.05, grace=0.2, send_stall=0.3, stall=0.3, reply=1.0, drain=0.3)
"""Bounds that a test can wait out."""


@dataclass
class Loop:
    """A running loop: set `stop`, await `ended` (True when it ended because it was stopped)."""

    stop: asyncio.Event
    ended: asyncio.Task[bool]


@asynccontextmanager
async def running(
    application: Application,
    api: RuntimeApi,
    concurrency: int = 1,
    timeouts: Timeouts | None = None,
    state: Mapping[str, Any] | None = None,
    events: Handler | None = None,
) -> AsyncIterator[Loop]:
    """Run the loop, and stop it at the end if the test did not."""
    client = Client("127.0.0.1", api.port, timeouts or Timeouts())
    function = Function(name="streamer", memory_limit_in_mb="512")
    plain = EventHandler(events, client) if events else None
    service = InvocationHandler(application, state or {}, client, function, plain)
    configure()
    stop = asyncio.Event()
    loop = Loop(stop, asyncio.create_task(WorkerPool(service, client, concurrency).run(stop)))
    try:
        yield loop
    finally:
        stop.set()
        await loop.ended
