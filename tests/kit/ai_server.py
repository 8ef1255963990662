"""An OpenAI-compatible server as a script: a test says which bytes each request gets, and when.

A script is a coroutine function that is given the `Call`. Those that tests need most are made by the functions below:

    async with AIServer() as server:
        gate = Gate()
        server.script(status(503), say("Hello", " world", gate=gate))
        ...                         # the first request gets a 503, the second the answer,
        await gate.release()        # one delta for each release
        await server.calls[1].closed.wait()

A request beyond the script gets `server.default`. Nothing here sleeps: a script waits for gates, or until the client
goes away.
"""

from __future__ import annotations

import asyncio
import gzip as gzip_format
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

Script = Callable[["Call"], Awaitable[None]]

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def event(value: object) -> bytes:
    """Frame one chunk of an answer as the wire has it."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: Mapping[str, Any] | None = None, finish_reason: str | None = None, **members: Any) -> dict[str, Any]:
    """Return a chat.completion.chunk with this delta; `members` are its further top-level members."""
    choice = {"index": 0, "delta": dict(delta or {}), "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "scripted"}
    return {**head, "choices": [choice], **members}


def text(content: str) -> bytes:
    """Return the event of one delta."""
    return event(chunk({"content": content}))


def finish(reason: str = "stop") -> bytes:
    """Return the event that carries the finish reason."""
    return event(chunk({}, reason))


def usage(input_tokens: int = 3, output_tokens: int = 2) -> bytes:
    """Return the event that carries the tokens used."""
    tokens = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return event(chunk(choices=[], usage=tokens | {"total_tokens": input_tokens + output_tokens}))


class Gate:
    """Lets a script go on step by step. Tells the test, with `reached`, that somebody waits in front of it."""

    def __init__(self) -> None:
        self._permits = 0
        self._waiting = 0
        self._changed = asyncio.Condition()
        self._is_open = False

    async def release(self, count: int = 1) -> None:
        """Let `count` waits through, present or future ones."""
        async with self._changed:
            self._permits += count
            self._changed.notify_all()

    async def open(self) -> None:
        """Let everything through from now on."""
        async with self._changed:
            self._is_open = True
            self._changed.notify_all()

    async def reached(self, count: int = 1) -> None:
        """Wait until at least `count` scripts stand in front of the gate."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting >= count)

    async def pass_through(self) -> None:
        async with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: self._is_open or self._permits > 0)
                self._permits -= not self._is_open
            finally:
                self._waiting -= 1


class Call:
    """One request, and the means to answer it."""

    def __init__(
        self,
        target: tuple[str, str],
        headers: Mapping[str, str],
        body: bytes,
        connection: int,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.method, self.path = target
        self.headers = headers
        """Names in lower case."""
        self.body = body
        self.connection = connection
        """Which of the server's connections it came on, counted from 1."""
        self.closed = asyncio.Event()
        """The client's connection is gone."""
        self.answered = asyncio.Event()
        """The script has run to its end, or was ended because the client went away."""
        self.keeps_connection = True
        self._writer = writer
        self._is_chunked = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def raw(self, data: bytes) -> None:
        """Write exactly these bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def start(self, code: int = 200, headers: Mapping[str, str] = SSE, framing: str = "chunked") -> None:
        """Send status and headers. `framing` is `chunked`, `close` (the connection's end ends the body) or `none`."""
        lines = [f"HTTP/1.1 {code} {'OK' if code < 400 else 'No'}", *(f"{k}: {v}" for k, v in headers.items())]
        self._is_chunked = framing == "chunked"
        if self._is_chunked:
            lines.append("transfer-encoding: chunked")
        elif framing == "close":
            lines.append("connection: close")
            self.keeps_connection = False
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """Send a part of the body, as one chunk where the body is chunked."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def end(self) -> None:
        """End the body."""
        if self._is_chunked:
            await self.raw(b"0\r\n\r\n")

    async def whole(self, code: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer with a body of known length."""
        await self.start(code, {**headers, "content-length": str(len(body))}, framing="none")
        await self.raw(body)

    def reset(self) -> None:
        """Break the connection so that the client reads `connection reset`."""
        self.keeps_connection = False
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def hang_up(self) -> None:
        """Close the connection in the middle of whatever has been sent."""
        self.keeps_connection = False
        self._writer.close()


class AIServer:
    """Serves on a port of its own, for as long as the context lasts. With an SSL context it speaks TLS."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self.calls: list[Call] = []
        self.default: Script = say("Hello", " world")
        self.connections = 0
        """How many have been accepted."""
        self.open_connections = 0
        self._scripts: deque[Script] = deque()
        self._ssl_context = ssl_context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._mistakes: list[Exception] = []
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL, as `OPENAI_BASE_URL` wants it."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.port}/v1"

    def script(self, *scripts: Script) -> None:
        """Add what the next requests get, one script for each."""
        self._scripts.extend(scripts)

    async def called(self, count: int = 1) -> Call:
        """Wait for the call with this number, counted from 1."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)
        return self.calls[count - 1]

    async def has_connections(self, count: int) -> None:
        """Wait until exactly so many connections are open."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.open_connections == count)

    async def __aenter__(self) -> AIServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl_context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._mistakes:
            raise self._mistakes[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        await self._count(+1)
        try:
            keeps_connection = True
            while keeps_connection:
                call = await self._read(reader, writer, number)
                await self._answer(call, reader)
                keeps_connection = call.keeps_connection
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, as it may
        except Exception as error:  # a mistake in a script, or of the client: the test shall fail by it
            self._mistakes.append(error)
        finally:
            for known in self.calls:
                if known.connection == number:
                    known.closed.set()
                    known.answered.set()
            writer.close()
            await self._count(-1)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> Call | None:
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        call = Call((method, path), headers, body, number, writer)
        async with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        return call

    async def _answer(self, call: Call, reader: asyncio.StreamReader) -> None:
        """Run the script until it ends or the client goes."""
        script = self._scripts.popleft() if self._scripts else self.default
        running = asyncio.ensure_future(script(call))
        watching = asyncio.ensure_future(_gone(reader))
        try:
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                call.keeps_connection = False
                return
            await running
            if watching.done():
                call.keeps_connection = False
        finally:
            for task in (running, watching):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(running, watching, return_exceptions=True)
            call.answered.set()

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open_connections += change
            self._changed.notify_all()


async def _gone(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed; a client that sends early would be a pipelining one, which none here is."""
    with suppress(OSError):
        assert not await reader.read(1), "a client sent data while its answer was under way"


def say(
    *deltas: str,
    reason: str | None = "stop",
    with_usage: bool = True,
    with_done: bool = True,
    gate: Gate | None = None,
    code: int = 200,
) -> Script:
    """A usual answer. With a gate each delta, and then the end, waits to be released."""

    async def script(call: Call) -> None:
        await call.start(code)
        await call.send(event(chunk({"role": "assistant", "content": ""})))
        for delta in deltas:
            if gate:
                await gate.pass_through()
            await call.send(text(delta))
        if gate:
            await gate.pass_through()
        last = finish(reason) if reason is not None else b""
        last += usage(output_tokens=len(deltas)) if with_usage else b""
        await call.send(last + (DONE if with_done else b""))
        await call.end()

    return script


def body(*parts: bytes, headers: Mapping[str, str] = SSE, framing: str = "chunked", gate: Gate | None = None) -> Script:
    """Exactly these parts, one write each; with a gate each waits to be released."""

    async def script(call: Call) -> None:
        await call.start(200, headers, framing)
        for part in parts:
            if gate:
                await gate.pass_through()
            await call.send(part)
        await call.end()

    return script


def exactly(*parts: bytes) -> Script:
    """Exactly these bytes, status line and all, one write each; then the connection is closed."""

    async def script(call: Call) -> None:
        for part in parts:
            await call.raw(part)
        call.hang_up()

    return script


def status(code: int, content: object = None, **headers: str) -> Script:
    """A status with a JSON body; an underscore in a header's name stands for a hyphen."""
    content = {"error": {"message": "SECRET words of the AI", "code": code}} if content is None else content
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(call: Call) -> None:
        await call.whole(code, JSON | fields, json.dumps(content).encode())

    return script


def html(code: int = 200) -> Script:
    """A page of a proxy that stands in the way."""

    async def script(call: Call) -> None:
        await call.whole(code, {"content-type": "text/html"}, b"<!doctype html>\n<title>SECRET</title>\n<p>Log in\n")

    return script


def gzip(*parts: bytes) -> Script:
    """An event stream, compressed."""

    async def script(call: Call) -> None:
        data = gzip_format.compress(b"".join(parts))
        await call.start(200, SSE | {"content-encoding": "gzip"})
        for at in range(0, len(data), 20):
            await call.send(data[at : at + 20])
        await call.end()

    return script


def silent(*parts: bytes) -> Script:
    """Headers, these parts of a body, then nothing until the client goes away."""

    async def script(call: Call) -> None:
        await call.start()
        for part in parts:
            await call.send(part)
        await call.closed.wait()

    return script


def mute() -> Script:
    """Not even a status line, until the client goes away."""

    async def script(call: Call) -> None:
        await call.closed.wait()

    return script


def only_keep_alives(*parts: bytes, tick: Callable[[], Awaitable[None]]) -> Script:
    """These parts, then a comment after every `tick`, until the client goes away."""

    async def script(call: Call) -> None:
        await call.start()
        for part in parts:
            await call.send(part)
        while True:
            await call.send(KEEP_ALIVE)
            await tick()

    return script


def reset(*parts: bytes, with_head: bool = True) -> Script:
    """These parts of a body, then a connection reset; without the head it comes in place of any response."""

    async def script(call: Call) -> None:
        if with_head:
            await call.start()
        for part in parts:
            await call.send(part)
        call.reset()

    return script


def cut(*parts: bytes) -> Script:
    """These parts of a chunked body, then the end of the connection where more should come."""

    async def script(call: Call) -> None:
        await call.start()
        for part in parts:
            await call.send(part)
        call.hang_up()

    return script


def slow_head(gate: Gate, then: Script) -> Script:
    """Nothing until the gate lets through, then that script."""

    async def script(call: Call) -> None:
        await gate.pass_through()
        await then(call)

    return script
