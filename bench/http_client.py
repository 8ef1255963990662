"""A client for peers that are web servers; as lean as the Runtime API that the others get."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from bench.asking import Ask


class HttpClient:
    """Keeps connections, as the gateway in front of a service would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[_Link] = []

    async def post(self, path: str, body: str) -> Ask:
        """Send a request."""
        while self._idle:
            link = self._idle.pop()
            if link.is_open:
                break
        else:
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: _Link(self._idle), "127.0.0.1", self._port
            )
        return link.send(path, body.encode())

    def close(self) -> None:
        for link in self._idle:
            link.close()


class _Link(asyncio.Protocol):
    def __init__(self, idle: list[_Link]) -> None:
        self._idle = idle
        self.is_open = True
        self._ask: Ask | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def send(self, path: str, body: bytes) -> Ask:
        self._parser = httptools.HttpResponseParser(self)
        self._ask = Ask()
        head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._transport.write(head.encode() + b"\r\n\r\n" + body)
        return self._ask

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        if self._ask is not None:
            self._ask.take(data)

    def on_message_complete(self) -> None:
        ask, self._ask = self._ask, None
        self._idle.append(self)
        if ask is not None:
            ask.end()

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self._ask is not None:
            self._ask.end()
