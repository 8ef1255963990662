"""The AI of the bench, in a process of its own: answers as the last message asks, and says when it was left.

The last message is a `Plan` as JSON. Each delta is the time at which it was sent and the time of the question, so that
whoever receives it, on the same machine, knows how long it was under way and how long the AI took. Standard output: the
port, then a line for each answer that was left before its end: its tag and the time, in nanoseconds of the monotonic
clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import httptools

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
_DELTA = (
    b'data: {"id":"chatcmpl-Bench0000000000000000000000000","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"bench","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":"%016x %016x "},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
_END = (
    b'data: {"id":"chatcmpl-Bench0000000000000000000000000","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"bench","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-Bench0000000000000000000000000","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"bench","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":99,"total_tokens":108}}\n\n'
    b"data: [DONE]\n\n"
)
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What an answer is to be like."""

    tag: str
    count: int
    rate: float = 0.0
    """Deltas a second; 0 is as fast as they are taken."""
    silent_after: int = 0
    """After so many deltas nothing comes for `silent_seconds`; 0 is never."""
    silent_seconds: float = 0.0
    thinking_seconds: float = 0.0
    """Before the first delta."""


class Conversation(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._plan: Plan | None = None
        self._is_chunked = True
        self._is_paused = False
        self._sent = 0
        self._next_at = 0.0
        self._asked_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        request = json.loads(b"".join(self._body))
        self._body = []
        self._plan = plan = Plan(**json.loads(request["messages"][-1]["content"]))
        self._sent = 0
        self._asked_ns = time.monotonic_ns()
        self._is_chunked = self._parser.get_http_version() == "1.1"
        framing = b"transfer-encoding: chunked\r\n\r\n" if self._is_chunked else b"connection: close\r\n\r\n"
        self._transport.write(_HEAD + framing)
        if plan.rate:
            loop = asyncio.get_running_loop()
            self._next_at = loop.time() + plan.thinking_seconds
            if plan.thinking_seconds:
                self._timer = loop.call_at(self._next_at, self._tick)
            else:
                self._tick()
        else:
            self._pour()

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _delta(self) -> bytes:
        return self._frame(_DELTA % (time.monotonic_ns(), self._asked_ns))

    def _tick(self) -> None:
        plan = self._plan
        if plan is None:
            return
        self._transport.write(self._delta())
        self._sent += 1
        if self._sent == plan.count:
            self._end()
            return
        self._next_at += plan.silent_seconds if self._sent == plan.silent_after else 1 / plan.rate
        self._timer = asyncio.get_running_loop().call_at(self._next_at, self._tick)

    def _pour(self) -> None:
        plan = self._plan
        while plan is not None and not self._is_paused and not self._transport.is_closing():
            block = min(_BLOCK, plan.count - self._sent)
            self._transport.write(self._delta() * block)
            self._sent += block
            if self._sent == plan.count:
                self._end()
                return

    def _end(self) -> None:
        self._plan = None
        if self._is_chunked:
            self._transport.write(self._frame(_END) + b"0\r\n\r\n")
        else:
            self._transport.write(_END)
            self._transport.close()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._plan is not None and not self._plan.rate:
            # Not from within: asyncio does not expect that a transport is closed here.
            asyncio.get_running_loop().call_soon(self._pour)

    def eof_received(self) -> None:
        self._left()

    def connection_lost(self, _: Exception | None) -> None:
        self._left()

    def _left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._plan is not None:
            print(self._plan.tag, time.monotonic_ns(), flush=True)
            self._plan = None


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
