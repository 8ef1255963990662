"""A small HTTP client: one connection a request, and full say over when it reads and when it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.soak.view import Event, read_event

_SMALL_BUFFER = 4096


class Response:
    """Status, headers and a body that is read as it comes."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    async def json(self) -> Any:
        data = b"".join([part async for part in self._parts()])
        return json.loads(data) if data else {}

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events; ends when the body ends, however that was."""
        buffer = b""
        loop = asyncio.get_running_loop()
        try:
            async for part in self._parts():
                *blocks, buffer = (buffer + part).split(b"\n\n")
                for block in blocks:
                    if event := read_event(block, loop.time()):
                        yield event
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return

    async def _parts(self) -> AsyncIterator[bytes]:
        if "content-length" in self.headers:
            yield await self._reader.readexactly(int(self.headers["content-length"]))
        elif self.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readline(), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def request(
    port: int, method: str, path: str, headers: Mapping[str, str], body: object = None, is_slow: bool = False
) -> AsyncIterator[Response]:
    """Ask; the connection is closed when this is left.

    Raises:
        OSError, asyncio.IncompleteReadError: there was no response.
    """
    limit = {"limit": _SMALL_BUFFER} if is_slow else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **limit)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"host": f"127.0.0.1:{port}", "connection": "close", "content-length": str(len(data)), **headers}
        head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        writer.write("\r\n".join(head).encode() + data)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        got = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        yield Response(int(first.split(" ")[1]), got, reader)
    finally:
        writer.close()
