"""A Runtime API as lean as can be, for functions under measurement. Source: as tests/kit/runtime_api.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import deque
from typing import Any

import httptools

from bench.asking import Ask


class RuntimeApi:
    """One function's; `async with` it, then `invoke`."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, bytes]] = deque()
        self._pollers: deque[_Link] = deque()
        self._asks: dict[str, Ask] = {}

    async def __aenter__(self) -> RuntimeApi:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), "127.0.0.1", 0, backlog=1024)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def invoke(self, event: object) -> Ask:
        """Hand an invocation to the function."""
        request_id = str(uuid.uuid4())
        payload = json.dumps(event).encode()
        ask = self._asks[request_id] = Ask()
        self._events.append((request_id, payload))
        self.hand_out()
        return ask

    def poll(self, link: _Link) -> None:
        self._pollers.append(link)
        self.hand_out()

    def hand_out(self) -> None:
        while self._events and self._pollers:
            link = self._pollers.popleft()
            if link.is_open:
                link.answer_poll(*self._events.popleft())

    def ask(self, request_id: str) -> Ask:
        return self._asks[request_id]

    def forget(self, request_id: str) -> None:
        self._asks.pop(request_id, None)


class _Link(asyncio.Protocol):
    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser = httptools.HttpRequestParser(self)
        self.is_open = True
        self._ask: Ask | None = None
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._ask = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(httptools.HttpParserUpgrade):
            self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self._ask is not None:
            self._ask.end()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        parts = self._target.decode().split("/")
        if parts[-1] in ("response", "error") and len(parts) == 6:
            self._ask = self._api.ask(parts[4])

    def on_body(self, data: bytes) -> None:
        if self._ask is not None:
            self._ask.take(data)

    def on_message_complete(self) -> None:
        if self._target.endswith(b"/next"):
            self._clear()
            self._api.poll(self)
            return
        if self._ask is not None:
            self._api.forget(self._target.decode().split("/")[4])
            self._ask.end()
        self._clear()
        self._transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    def answer_poll(self, request_id: str, payload: bytes) -> None:
        deadline_ms = int(time.time() * 1000) + 300_000
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            f"content-length: {len(payload)}\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-north-1:123456789012:function:bench\r\n"
            "Lambda-Runtime-Trace-Id: Root=1-0\r\n\r\n"
        )
        self._transport.write(head.encode() + payload)


def url_event(path: str, body: str, headers: dict[str, str]) -> dict[str, object]:
    """Return a POST as a Function URL event. Source: as lambda_stream/event.py."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "bench", "content-type": "application/json", **headers},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "bench",
            "domainName": "bench",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "bench",
            },
            "requestId": "bench",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "body": body,
        "isBase64Encoded": False,
    }
