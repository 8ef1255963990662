"""The same with httpx and its own transport, as one would write it. Runs on lambda_stream."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx

URL = f"http://{os.environ['BENCH_AI']}/v1/chat/completions"
client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))
running: dict[bytes, asyncio.Task[Any]] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    tag = dict(scope["headers"])[b"x-tag"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if scope["path"] == "/cancel":
        running[tag].cancel()
        await send({"type": "http.response.body", "body": b"{}"})
        return
    running[tag] = asyncio.current_task()  # type: ignore[assignment]
    body = (await receive())["body"]
    try:
        async with client.stream("POST", URL, content=body) as response:
            async for data in response.aiter_raw():
                await send({"type": "http.response.body", "body": data, "more_body": True})
    except asyncio.CancelledError:
        pass
    finally:
        del running[tag]
    await send({"type": "http.response.body", "body": b""})
