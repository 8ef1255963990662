"""ASGI's `receive` and `send` for one request: what may be sent when, and how an unfinished response is ended.

    expecting start ──http.response.start──▶ streaming ──http.response.body, no more──▶ complete
          └────────────────── end() ─────────────┴───────────────────────────────────────▲

A message that does not fit the state raises and changes nothing.
Source: ASGI 3.0, "HTTP & WebSocket ASGI message format", version 2.4.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import Enum, auto

from lambda_stream import _prelude as prelude
from lambda_stream._errors import InvalidResponse, ResponseClosed
from lambda_stream._handler import Message
from lambda_stream._one_piece import OnePiece
from lambda_stream._response import ResponseStream
from lambda_stream._runtime_api import error_document, error_trailers

_NO_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a response is ended for the application: as a status when nothing was sent yet, as an error type later."""

    status: int
    code: str
    title: str
    detail: str
    error_type: str


TOO_LATE = Problem(
    504, "deadline_exceeded", "Gateway timeout", "The function did not finish in time.", "Function.DeadlineExceeded"
)
STOPPING = Problem(
    503, "shutting_down", "Service unavailable", "The function is being shut down.", "Runtime.ShuttingDown"
)


class CycleState(Enum):
    """Where a response is."""

    EXPECTING_START = auto()
    STREAMING = auto()
    COMPLETE = auto()
    """The application ended it."""
    CUT_OFF = auto()
    """It was ended in the application's place."""


class RequestResponseCycle:
    """One request and its response."""

    def __init__(self, stream: ResponseStream | OnePiece, method: str, body: bytes, request_id: str) -> None:
        self._stream = stream
        self._method = method
        self._body: bytes | None = body
        self._request_id = request_id
        self._status: int | None = None
        self._state = CycleState.EXPECTING_START
        self._ended = asyncio.Event()

    @property
    def is_started(self) -> bool:
        return self._stream.is_started

    @property
    def is_complete(self) -> bool:
        return self._ended.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether the response ended without the application's doing."""
        return self._state is CycleState.CUT_OFF or (self._stream.is_broken and not self.is_complete)

    @property
    def _takes_body(self) -> bool:
        return self._method != "HEAD" and self._status not in _NO_BODY

    async def receive(self) -> Message:
        """Give the whole body once, then nothing until the response is complete."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message of the application. If cancelled while it waits for room, it has sent nothing.

        Raises:
            InvalidResponse: the message is not allowed, or not now.
            ResponseClosed: (an OSError) nobody takes the response any more.
        """
        kind = message["type"]
        if kind == "http.response.start" and not (self.is_started or self.is_complete or self.is_closed):
            await self._stream.connect()  # before the checks: meanwhile the response may be started or ended
        if self.is_closed:
            raise ResponseClosed("the response is closed")
        if kind == "http.response.start" and not self.is_started and not self.is_complete:
            await self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.is_started and not self.is_complete:
            await self._write(message.get("body", b""), message.get("more_body", False))
        else:
            raise InvalidResponse(f"Unexpected ASGI message {kind!r}")

    def write(self, body: bytes) -> bool:
        """Send more of the body at once; False, and nothing is sent, wherever `send` would wait, raise or drop it.

        For applications that send many small parts, each of which costs `send` and who awaits it turns of the loop.
        """
        return bool(body) and self._state is CycleState.STREAMING and self._takes_body and self._stream.write_now(body)

    async def end(self, problem: Problem | None) -> None:
        """End the response if the application did not; afterwards nothing more is taken from it.

        Raises:
            ResponseClosed: it cannot be ended.
        """
        if self.is_complete:
            return
        self._state = CycleState.CUT_OFF
        try:
            if not self.is_started and problem is not None:
                await self._start(problem.status, [(b"content-type", b"application/problem+json")])
                await self._write(self._document(problem), more=False)
            elif problem is not None:
                document = error_document(problem.error_type, problem.detail)
                self._stream.finish(error_trailers(problem.error_type, document))
            else:
                self._stream.finish()
        finally:
            self._ended.set()

    async def _start(self, status: int, headers: prelude.Headers) -> None:
        encoded = prelude.encode(status, headers)
        await self._stream.start(encoded)
        self._status = status
        if self._state is CycleState.EXPECTING_START:
            self._state = CycleState.STREAMING

    async def _write(self, body: object, more: bool) -> None:
        if not isinstance(body, bytes | bytearray | memoryview):
            raise InvalidResponse(f"A body must be bytes, not {type(body).__name__}")
        if body and self._takes_body:
            await self._stream.write(bytes(body))
        if not more and not self.is_complete:
            self._stream.finish()
            if self._state is CycleState.STREAMING:
                self._state = CycleState.COMPLETE
            self._ended.set()

    def _document(self, problem: Problem) -> bytes:
        members = {
            "type": "about:blank",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
            "requestId": self._request_id,
        }
        return json.dumps(members).encode()
