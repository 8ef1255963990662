"""A small HTTP server that plays the Lambda Runtime API, by a script: delays, statuses, stalled reading, drops.

It keeps every chunk as it was framed, so that a test can tell what was sent when. Source: AWS Lambda developer guide,
"Using the Lambda runtime API"; what it does after a fault is what the runtime interface emulator was seen to do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

Fault = Literal["drop", "cut", "garbage", "close", "vanish", "announce"]
"""drop: no byte; cut: within the answer; garbage: no HTTP; close: answered, announced to close, closed;
vanish: answered, closed without a word; announce: answered, announced to close, left open."""

_RECEIVE_BUFFER_BYTES = 16 * 1024


@dataclass(eq=False)
class Handed:
    """One invocation: what is handed out, how its answer is taken, and what the answer was."""

    event: object
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    deadline_ms: int = field(default_factory=lambda: int(time.time() * 1000) + 60_000)
    extra_headers: dict[str, str] = field(default_factory=dict)
    status: int = 202
    """The answer to the response or error report."""
    answer_after_chunks: int | None = None
    """Answer already then, and read no further."""
    drop_after_chunks: int | None = None

    head: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    error: tuple[str, dict[str, Any]] | None = None
    responses: int = 0
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    """Handed out."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """The prelude has arrived."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Answered whole: body with its last chunk, or error report."""
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    """The response's connection ended before its last chunk."""
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, nothing is read off the response's connection."""
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, a whole response is not answered."""

    def __post_init__(self) -> None:
        self.reading.set()
        self.answering.set()

    @property
    def prelude(self) -> dict[str, Any]:
        text, nuls = self.chunks[0][:-8], self.chunks[0][-8:]
        assert nuls == bytes(8) and b"\0" not in text, "the first chunk is the prelude and eight NULs, nothing else"
        return json.loads(text)  # type: ignore[no-any-return]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks[1:])

    @property
    def trailer_error(self) -> tuple[str, dict[str, Any]] | None:
        if "lambda-runtime-function-error-type" not in self.trailers:
            return None
        document = json.loads(base64.b64decode(self.trailers["lambda-runtime-function-error-body"]))
        return self.trailers["lambda-runtime-function-error-type"], document


class RuntimeApi:
    """The server. `async with RuntimeApi() as api`; then `api.invoke(event)`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Handed] = asyncio.Queue()
        self._handed: dict[str, Handed] = {}
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.poll_script: deque[Fault | int] = deque()
        """What happens to the next polls instead of an invocation: a fault, or a status."""
        self.init_errors: list[tuple[str, dict[str, Any]]] = []
        self.init_error_status = 202
        self.polls = 0
        self.waiting = 0
        self.most_waiting = 0
        self.connections = 0
        self.accepted = 0
        self.unexpected: list[str] = []

    async def __aenter__(self) -> RuntimeApi:
        # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer would wait 40 ms
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)  # stalls are felt soon
        listener.bind(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_RECEIVE_BUFFER_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for handed in self._handed.values():
            handed.reading.set()
            handed.answering.set()
        for writer in self._writers.values():
            writer.transport.abort()
        if self._writers:
            await asyncio.wait(self._writers)

    def invoke(self, event: object, **script: Any) -> Handed:
        """Queue an invocation; the next poll gets it."""
        handed = Handed(event, **script)
        self._handed[handed.request_id] = handed
        self._queue.put_nowait(handed)
        return handed

    def forget(self) -> None:
        """Drop what was answered, so that long tests measure the client and not this."""
        self._handed = {key: handed for key, handed in self._handed.items() if not handed.ended.is_set()}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        self.connections += 1
        self.accepted += 1
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            self.connections -= 1
            del self._writers[task]
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; tell whether the connection stays open."""
        request_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        method, target, _ = request_line.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        path = target.removeprefix("/2018-06-01/runtime")
        if (method, path) == ("GET", "/invocation/next"):
            return await self._next(reader, writer)
        if (method, path) == ("POST", "/init/error"):
            await self._init_error(reader, writer, headers)
            return False
        match [method, *path.split("/")]:
            case ["POST", "", "invocation", request_id, "response"] if request_id in self._handed:
                await self._response(self._handed[request_id], reader, writer, headers)
            case ["POST", "", "invocation", request_id, "error"] if request_id in self._handed:
                await self._error(self._handed[request_id], reader, writer, headers)
            case _:
                self.unexpected.append(request_line)
                await self._answer(writer, 404)
        return False

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.polls += 1
        step = self.poll_script.popleft() if self.poll_script else None
        if step in ("drop", "garbage") or isinstance(step, int):
            if step == "garbage":
                writer.write(b"this is no HTTP\r\n\r\n")
            if isinstance(step, int):
                await self._answer(writer, step)
            return False
        handed = await self._take(reader)
        payload = handed.event if isinstance(handed.event, bytes) else json.dumps(handed.event).encode()
        writer.write(_invocation_head(handed, len(payload), closes=step in ("close", "announce")))
        if step == "cut":
            writer.write(payload[: len(payload) // 2])
            await writer.drain()
            self._queue.put_nowait(handed)  # an unanswered invocation is handed out again
            return False
        handed.taken.set()
        writer.write(payload)
        await writer.drain()
        return step not in ("close", "vanish")

    async def _take(self, reader: asyncio.StreamReader) -> Handed:
        """Wait for an invocation, or for the client to go away."""
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        gone, found = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self._queue.get())
        try:
            await asyncio.wait({gone, found}, return_when=asyncio.FIRST_COMPLETED)
            if not found.done():
                raise ConnectionResetError
            return found.result()
        finally:
            self.waiting -= 1
            found.cancel()
            gone.cancel()
            await asyncio.wait({gone, found})

    async def _response(
        self, handed: Handed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        handed.responses += 1
        handed.head = headers
        try:
            async for data in _chunks(handed, reader):
                handed.chunks.append(data)
                handed.begun.set()
                if len(handed.chunks) == handed.answer_after_chunks:
                    await self._answer(writer, handed.status)
                    return
                if len(handed.chunks) == handed.drop_after_chunks:
                    writer.transport.abort()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            handed.broken.set()
            raise
        await handed.answering.wait()
        await self._answer(writer, handed.status)
        handed.ended.set()

    async def _error(
        self, handed: Handed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        handed.head = headers
        handed.error = await _report(reader, headers)
        await self._answer(writer, handed.status)
        handed.ended.set()

    async def _init_error(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        self.init_errors.append(await _report(reader, headers))
        await self._answer(writer, self.init_error_status)

    async def _answer(self, writer: asyncio.StreamWriter, status: int) -> None:
        writer.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % status)
        await writer.drain()


def _invocation_head(handed: Handed, length: int, closes: bool) -> bytes:
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(length),
        "Lambda-Runtime-Aws-Request-Id": handed.request_id,
        "Lambda-Runtime-Deadline-Ms": str(handed.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-north-1:123456789012:function:streamer",
        "Lambda-Runtime-Trace-Id": f"Root=1-{handed.request_id[:8]}",
    } | handed.extra_headers
    if closes:
        headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")


async def _chunks(handed: Handed, reader: asyncio.StreamReader) -> Any:
    """Yield chunk by chunk, then keep the trailers. Raises when the body ends in any other way."""
    while True:
        await handed.reading.wait()
        size = int(await reader.readuntil(b"\r\n"), 16)
        if size == 0:
            break
        data = await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
        yield data
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").strip().partition(": ")
        handed.trailers[name.lower()] = value


async def _report(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    body = await reader.readexactly(int(headers["content-length"]))
    return headers["lambda-runtime-function-error-type"], json.loads(body)
