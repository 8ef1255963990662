"""From the bytes of a response's body to the pieces of an answer, however the bytes are cut. Pure: no I/O, no clock.

Accepts everything that OpenAI-compatible services are seen to send, and never raises for what it is fed: what is wrong
is skipped and counted, or ends up in `failure`.

Source: WHATWG HTML, section 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

import logging

from chat.adapters.llm.chunks import ChunkReader, says_only_text
from chat.adapters.llm.delta_fast_path import Template, decode
from chat.application.ports import StreamPart
from chat.domain.errors import AnswerFailed, FailureCode

MAX_EVENT_BYTES = 4 << 20
"""How long one event, or an answer that is no event stream, may be."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"event", b"id", b"retry")

logger = logging.getLogger(__name__)


class Parser:
    """Reads one response's body. Feed it until `is_done` or the end of the body, then call `finish` once."""

    def __init__(self) -> None:
        self.is_done = False
        """Nothing that could follow matters: the service said `[DONE]`, or the answer has failed."""
        self.undecodable = 0
        """How many lines or events could not be understood and were skipped."""
        self._chunks = ChunkReader()
        self._template = Template()
        self._failure: FailureCode | None = None
        self._has_begun = False
        self._has_heard = False
        """Something came that should have been part of an answer."""
        self._is_whole = False
        """The body is one JSON document instead of an event stream."""
        self._after_cr = False
        self._held: list[bytes] = []
        """A line, or a whole body, whose end has not come."""
        self._data: list[bytes] = []
        """The data lines of an event whose end has not come."""
        self._size = 0
        """Bytes in both."""

    @property
    def is_finished(self) -> bool:
        """Whether the model gave a finish reason."""
        return self._chunks.is_finished

    @property
    def failure(self) -> AnswerFailed | None:
        """Why this is no complete answer; before `finish` only what more input cannot change."""
        return None if self._failure is None else AnswerFailed(self._failure)

    def feed(self, data: bytes) -> list[StreamPart]:
        """Take the next bytes and return what they complete."""
        pieces: list[StreamPart] = []
        if self.is_done:
            return pieces
        if not self._has_begun:
            data = self._begin(data)
        if self._is_whole:
            self._hold(data)
            return pieces
        if self._after_cr or b"\r" in data:
            data = self._unify_line_ends(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._held:
            lines[0] = b"".join([*self._held, lines[0]])
            self._size -= sum(map(len, self._held))
            self._held.clear()
        for line in lines:
            if line or self._data:
                self._take_line(line, pieces)
            if self.is_done:
                return pieces
        self._hold(rest)
        return pieces

    def finish(self) -> list[StreamPart]:
        """Take the end of the body: return what was still held, and settle `failure`."""
        pieces: list[StreamPart] = []
        rest = b"".join(self._held)
        if not self.is_done and self._is_whole:
            self._take(rest, pieces, "message")
        elif not self.is_done:
            if rest:
                self._take_line(rest, pieces)
            self._take_event(pieces, is_last=True)
        self._chunks.flush(pieces)
        self.is_done = True
        if self._failure is None and not self.is_finished:
            is_nonsense = self._has_heard and not self._chunks.has_understood
            self._failure = FailureCode.AI_INVALID if is_nonsense else FailureCode.AI_INCOMPLETE
        return pieces

    def _begin(self, data: bytes) -> bytes:
        """Look for a byte order mark and at the first byte that is no white space: no event stream begins with `{`."""
        data = b"".join([*self._held, data])
        self._held.clear()
        self._size = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        data = data.removeprefix(_BOM).lstrip()
        self._has_begun = bool(data)
        self._is_whole = data.startswith(b"{")
        return data

    def _unify_line_ends(self, data: bytes) -> bytes:
        """Make every line end LF. A CR ends its line at once; if the next byte is an LF it belongs to it."""
        if not data:
            return data
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take_line(self, line: bytes, pieces: list[StreamPart]) -> None:
        if not line:
            self._take_event(pieces)
        elif line.startswith(b"data:"):
            self._add_data(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line == b"data":
            self._add_data(b"")
        elif not line.startswith(b":") and line.partition(b":")[0] not in _FIELDS:
            self._skip()

    def _take_event(self, pieces: list[StreamPart], is_last: bool = False) -> None:
        if not self._data:
            return
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        self._take(data, pieces, is_cut=is_last)

    def _take(self, data: bytes, pieces: list[StreamPart], message: str = "delta", is_cut: bool = False) -> None:
        """Decode one JSON document; `is_cut` when it may lack its end and that is no fault of its own."""
        if text := self._template.text_in(data):
            self._chunks.say(text, pieces)
            return
        if data.strip() == b"[DONE]":
            self.is_done = True
            return
        try:
            chunk = decode(data)
        except (ValueError, RecursionError):
            if not is_cut:
                self._skip()
            return
        self._has_heard = True
        self._chunks.read(chunk, pieces, message)
        if self._chunks.failure:
            self._fail(self._chunks.failure)
        elif self._template.wants(data) and says_only_text(chunk):
            self._template.learn(data, chunk)

    def _add_data(self, data: bytes) -> None:
        self._data.append(data)
        self._grow(len(data))

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._grow(len(data))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            self._fail(FailureCode.AI_INVALID)

    def _fail(self, code: FailureCode) -> None:
        self._failure = code
        self.is_done = True
        self._held.clear()
        self._data.clear()

    def _skip(self) -> None:
        self._has_heard = True
        self.undecodable += 1
        if self.undecodable == 1:
            logger.warning("the AI sent something that cannot be decoded")
