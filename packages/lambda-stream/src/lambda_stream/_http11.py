"""HTTP/1.1 as the Runtime API needs it: requests, chunks and trailers as bytes, responses out of a stream reader.

No sockets here. Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from lambda_stream._errors import Disconnected, RuntimeApiError

LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a response; names in lower case, repeats joined by commas."""

    status: int
    headers: Mapping[str, str]
    version: str = "HTTP/1.1"

    @property
    def closes(self) -> bool:
        """Whether the connection cannot serve another request."""
        options = self.headers.get("connection", "").lower()
        return "close" in options or (self.version == "HTTP/1.0" and "keep-alive" not in options)


def request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Encode a request; `headers` says itself how the body is delimited."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """Frame non-empty data as one chunk, copying it once. Source: RFC 9112, section 7.1."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))


def last_chunk(trailers: Mapping[str, str]) -> bytes:
    """End a chunked body with trailer fields. Source: RFC 9112, section 7.1.2."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
    return b"0\r\n" + fields.encode("latin-1") + b"\r\n"


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read up to the end of the header section, skipping interim (1xx) responses.

    Raises:
        Disconnected: the connection ended before a first byte.
        RuntimeApiError: it ended later, or what came is not HTTP.
    """
    while True:
        head = _parse_head(await _read_until_blank_line(reader))
        if head.status >= 200:
            return head


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """Read the body that belongs to `head`.

    Raises:
        RuntimeApiError: the connection ended early, or the framing is wrong.
    """
    try:
        if head.status in (204, 304):
            return b""
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return await _read_chunks(reader)
        if (length := head.headers.get("content-length")) is not None:
            return await reader.readexactly(_whole(length, 10))
        return await reader.read()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RuntimeApiError("the Runtime API's response is cut off") from error


async def _read_until_blank_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise Disconnected("the Runtime API closed the connection") from error
        raise RuntimeApiError("the Runtime API's response is cut off") from error
    except asyncio.LimitOverrunError as error:
        raise RuntimeApiError("the Runtime API's headers are too large") from error


def _parse_head(data: bytes) -> Head:
    status_line, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = status_line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal() or rest[3:4] not in ("", " "):
        raise RuntimeApiError(f"not an HTTP/1.1 response: {status_line[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise RuntimeApiError(f"not a header field: {line[:80]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(int(rest[:3]), headers, version)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := _whole((await reader.readuntil(b"\r\n")).split(b";")[0].strip().decode("latin-1"), 16):
        parts.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise RuntimeApiError("a chunk does not end where it says")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailer fields: the Runtime API sends none that matter
    return b"".join(parts)


def _whole(text: str, radix: int) -> int:
    if not text.isalnum() or not text.isascii():  # int() would also take signs, spaces and underscores
        raise RuntimeApiError(f"not a length: {text[:20]!r}")
    try:
        return int(text, radix)
    except ValueError:
        raise RuntimeApiError(f"not a length: {text[:20]!r}") from None
