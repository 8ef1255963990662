"""A streaming function: `first` at once, the rest when somebody has asked for `/health?<key>`; it may end badly."""

import asyncio
import json
import os
from collections import defaultdict

released = defaultdict(asyncio.Event)
finished = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/health":
        released[scope["query_string"].decode()].set()
        await respond(send, b"application/json", json.dumps({"pid": os.getpid(), "finished": finished}).encode())
    else:
        asked = json.loads((await receive())["body"])
        await respond(send, b"text/event-stream", b"first\n", more=True)
        await released[asked["key"]].wait()
        await end(send, asked)


async def end(send, asked):
    if asked.get("do") == "exit":
        os._exit(3)
    if asked.get("do") == "raise":
        raise RuntimeError("as asked")
    await send({"type": "http.response.body", "body": b"last\n"})
    finished.append(asked["key"])


async def respond(send, content_type, body, more=False):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})
    await send({"type": "http.response.body", "body": body, "more_body": more})
