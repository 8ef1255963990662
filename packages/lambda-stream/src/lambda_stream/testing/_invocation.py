"""One invocation: what is handed out, how its answer is taken, and what the answer was."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

PRELUDE_SEPARATOR = bytes(8)


class ErrorReport(NamedTuple):
    """What was posted to one of the `/error` routes."""

    error_type: str
    document: Mapping[str, Any]
    """`errorType`, `errorMessage` and `stackTrace`; empty when the body was no JSON object."""

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> ErrorReport:
        """Take it from headers (or trailers) and body; clients may leave out either."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        document = document if isinstance(document, dict) else {}
        default = document.get("errorType", "")
        return cls(headers.get("lambda-runtime-function-error-type", str(default)), document)

    @property
    def message(self) -> str:
        return str(self.document.get("errorMessage", ""))


class Link(Protocol):
    """The connection that an answer comes on."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def release(self) -> None: ...


@dataclass(eq=False)
class Invocation:
    """An event on its way through the function.

    It records the answer. Override the methods that begin with `on_` to do something else with it; they are called by
    the emulator as the parts arrive.
    """

    event: object
    """Sent as JSON, or as it is when it is bytes."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    deadline_ms: int = field(default_factory=lambda: int(time.time() * 1000) + 60_000)
    """Milliseconds since the epoch."""
    function_arn: str = "arn:aws:lambda:eu-north-1:123456789012:function:streamer"
    trace_id: str = ""
    """Made from the request id when it is not given."""
    invocation_id: str | None = None
    """When given, an answer that echoes another one is refused; older clients echo none."""
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 202
    """What the answer, or the error report, is answered with."""
    answer_after_chunks: int | None = None
    """Answer already then, and read no further."""
    drop_after_chunks: int | None = None
    """Close the answer's connection then."""

    head: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer's request; names in lower case."""
    chunks: list[bytes] = field(default_factory=list)
    """The answer as it was framed; of a streamed HTTP response, the first is the prelude."""
    trailers: Mapping[str, str] = field(default_factory=dict)
    error: ErrorReport | None = None
    """What was reported instead of an answer."""
    responses: int = 0
    """How many answers were tried, refused ones included."""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    """Handed out."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """The answer's first chunk has arrived."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Answered whole: body with its last chunk, or error report."""
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    """The answer's connection ended before its last chunk."""

    _link: Link | None = None
    is_paused: bool = False
    is_withheld: bool = False

    def __post_init__(self) -> None:
        self.trace_id = self.trace_id or f"Root=1-{self.request_id[:8]}"

    @property
    def payload(self) -> bytes:
        """The event as it is sent."""
        return self.event if isinstance(self.event, bytes) else json.dumps(self.event).encode()

    @property
    def is_late(self) -> bool:
        """Whether an answer that begins now is too late; it is then read and answered with 410."""
        return False

    @property
    def is_being_answered(self) -> bool:
        """An answer is arriving."""
        return self._link is not None

    @property
    def prelude(self) -> dict[str, Any]:
        """Status, headers and cookies of a streamed HTTP response."""
        text, separator = self.chunks[0][:-8], self.chunks[0][-8:]
        assert separator == PRELUDE_SEPARATOR and b"\0" not in text, "the first chunk is prelude and NULs, nothing else"  # noqa: S101
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def body(self) -> bytes:
        """The body of a streamed HTTP response, as far as it has arrived."""
        return b"".join(self.chunks[1:])

    @property
    def trailer_error(self) -> ErrorReport | None:
        """What the trailers say went wrong in the middle of the answer."""
        if "lambda-runtime-function-error-type" not in self.trailers:
            return None
        body = self.trailers.get("lambda-runtime-function-error-body", "")
        return ErrorReport.read(self.trailers, base64.b64decode(body))

    def pause(self) -> None:
        """Read nothing more of the answer until `resume`."""
        self.is_paused = True
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Read on."""
        self.is_paused = False
        if self._link is not None:
            self._link.resume()

    def withhold(self) -> None:
        """Do not answer a whole answer until `release`."""
        self.is_withheld = True

    def release(self) -> None:
        """Answer it."""
        self.is_withheld = False
        if self._link is not None:
            self._link.release()

    def attach(self, link: Link | None) -> None:
        """Say on which connection the answer comes."""
        self._link = link

    def on_response(self, headers: Mapping[str, str]) -> None:
        """An answer begins."""
        self.head = headers

    def on_chunk(self, data: bytes) -> None:
        """A chunk of it has arrived, whole."""
        self.chunks.append(data)
        self.begun.set()

    def on_complete(self, trailers: Mapping[str, str]) -> None:
        """It has arrived whole; it is answered next."""
        self.trailers = trailers

    def on_error(self, headers: Mapping[str, str], report: ErrorReport) -> None:
        """An error was reported instead."""
        self.head = headers
        self.error = report

    def on_broken(self) -> None:
        """The connection ended within it."""
        self.broken.set()
