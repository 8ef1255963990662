"""Requests written by hand, as a server would hand them to an ASGI application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import Message


class Body:
    """The `receive` of a request: hands out the pieces one by one and counts how often it was asked."""

    def __init__(self, *pieces: bytes, is_cut: bool = False) -> None:
        self.reads = 0
        last = len(pieces) - 1
        self._messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": is_cut or number < last}
            for number, piece in enumerate(pieces)
        ]
        if not pieces and not is_cut:
            self._messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def __call__(self) -> Message:
        self.reads += 1
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}


def scope_of(
    headers: Iterable[tuple[str, str]] = (), query: str = "", method: str = "POST", path: str = "/", **more: Any
) -> dict[str, Any]:
    """Return the ASGI scope of a request."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 80),
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        **more,
    }


def request_of(
    headers: Iterable[tuple[str, str]] = (),
    body: Body | bytes = b"",
    query: str = "",
    path_params: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Request:
    """Return such a request."""
    receive = body if isinstance(body, Body) else Body(body)
    return Request(scope_of(headers, query, method, path_params=dict(path_params or {})), receive)


class Reply:
    """The `send` of a request: keeps what the application answers."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])
