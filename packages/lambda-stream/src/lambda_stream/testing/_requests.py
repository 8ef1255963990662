"""Requests as the Runtime API's clients send them, out of bytes as they come. No sockets here.

Chunks keep their bounds, so that a test can tell what was written when. Source: RFC 9112.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_MAX_HEAD_BYTES = 64 * 1024


class BadRequest(ValueError):
    """What came is no HTTP/1.1 request."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Method, target and headers; names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def closes(self) -> bool:
        """Whether the client wants no further request on this connection."""
        return "close" in self.headers.get("connection", "").lower()


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """The end of a request, with its trailers; names in lower case."""

    trailers: Mapping[str, str] = field(default_factory=dict)


Part = RequestHead | bytes | RequestEnd


class RequestParser:
    """Feed it what was received; `next` gives head, pieces of the body and end, or None when more must come first."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._step: Callable[[], Part | None] = self._head
        self._left = 0
        self._chunk: tuple[int, int] | None = None

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next(self) -> Part | None:
        """Return the next part of what was fed.

        Raises:
            BadRequest: it is no HTTP.
        """
        try:
            return self._step()
        except (ValueError, LookupError) as error:
            raise BadRequest(str(error)) from error

    def _head(self) -> RequestHead | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise BadRequest("the headers are too large")
            return None
        request_line, *lines = self._taken(end + 4)[:-4].decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        head = RequestHead(method, target, _fields(lines))
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            self._step = self._chunked
        else:
            self._left = int(head.headers.get("content-length", "0"))
            self._step = self._sized
        return head

    def _sized(self) -> bytes | RequestEnd | None:
        if self._left == 0:
            return self._end({})
        data = self._taken(min(self._left, len(self._buffer)))
        self._left -= len(data)
        return data or None

    def _chunked(self) -> bytes | RequestEnd | None:
        if self._chunk is None:
            line = self._buffer.find(b"\r\n")
            if line < 0:
                return None
            size = int(self._buffer[:line].partition(b";")[0], 16)
            if size == 0:
                self._taken(line + 2)
                self._step = self._trailers
                return self._trailers()
            self._chunk = line + 2, line + 2 + size
        start, end = self._chunk
        if len(self._buffer) < end + 2:
            return None
        framed = self._taken(end + 2)
        self._chunk = None
        if framed[end:] != b"\r\n":
            raise BadRequest("a chunk does not end where it says")
        return framed[start:end]

    def _trailers(self) -> RequestEnd | None:
        if self._buffer.startswith(b"\r\n"):
            self._taken(2)
            return self._end({})
        end = self._buffer.find(b"\r\n\r\n")
        return None if end < 0 else self._end(_fields(self._taken(end + 4)[:-4].decode("latin-1").split("\r\n")))

    def _end(self, trailers: Mapping[str, str]) -> RequestEnd:
        self._step = self._head
        return RequestEnd(trailers)

    def _taken(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


def _fields(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"not a header field: {line[:80]!r}")
        found[name.lower()] = value.strip(" \t")
    return found
