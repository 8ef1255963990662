"""A streaming function: `first` at once, then a wait at the test's gate, then what was asked for, or `last`."""

import asyncio
import json
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/health":
        await respond(send, b"application/json", b'{"status": "ok"}')
    else:
        asked = json.loads((await receive())["body"])
        await respond(send, b"text/event-stream", b"first\n", more=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", asked["gate"])
        await reader.read(1)
        await end(send, asked)
        writer.write(b"!")
        writer.close()


async def end(send, asked):
    if asked.get("do") == "exit":
        os._exit(3)
    if asked.get("do") == "raise":
        raise RuntimeError("as asked")
    await send({"type": "http.response.body", "body": b"last\n"})


async def respond(send, content_type, body, more=False):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})
    await send({"type": "http.response.body", "body": body, "more_body": more})
