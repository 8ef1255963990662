"""The floor: bytes from one socket to the other, nothing looked at. Runs on lambda_stream."""

from __future__ import annotations

import asyncio
import os
from typing import Any

HOST, PORT = os.environ["BENCH_AI"].split(":")
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
    reader, writer = await asyncio.open_connection(HOST, PORT, limit=1 << 18)
    try:
        writer.write(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.readuntil(b"\r\n\r\n")
        while data := await reader.read(1 << 18):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except asyncio.CancelledError:
        pass
    finally:
        writer.transport.abort()
        del running[tag]
    await send({"type": "http.response.body", "body": b""})
