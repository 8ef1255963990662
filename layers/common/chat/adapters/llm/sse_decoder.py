"""From the bytes of a response's body to the parts of an answer, however the bytes are cut. Pure: no I/O, no clock.

Accepts everything that OpenAI-compatible services are seen to send, and never raises for what it is fed: what is wrong
is skipped and counted, or ends up in `failure`.

Source: WHATWG HTML, section 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

import logging

from chat.adapters.llm.chunks import ChunkReader, says_only_text
from chat.adapters.llm.delta_fast_path import DeltaFastPath, decode
from chat.application.ports import StreamPart
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import Usage

MAX_EVENT_BYTES = 4 << 20
"""How long one event, or an answer that is no event stream, may be; a piece of it counts PIECE_BYTES more."""
PIECE_BYTES = 64
"""What a list and an object cost for each piece that is kept, however short."""
MAX_BARREN_BYTES = 16 << 20
"""How much may come in a row that adds nothing to the answer: comments, empty lines, tool calls, nonsense."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"event", b"id", b"retry")

logger = logging.getLogger(__name__)


class SseDecoder:
    """Reads one response's body. Feed it until `is_done` or the end of the body, then call `finish` once."""

    def __init__(self, think_tags: bool = True) -> None:
        """With `think_tags`, what stands in `<think>` at the beginning of the text is reasoning."""
        self.is_done = False
        """Nothing that could follow matters: the service said `[DONE]`, or the answer has failed."""
        self.undecodable = 0
        """How many lines or events could not be understood and were skipped."""
        self.keep_alives = 0
        """How many comments have come: no words of the answer, but the service lives."""
        self._chunks = ChunkReader(think_tags)
        self._fast_path = DeltaFastPath()
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
        """What both cost, in bytes."""
        self._barren_bytes = 0
        """How much has come since the last part of the answer."""

    @property
    def is_finished(self) -> bool:
        """Whether the model gave a finish reason."""
        return self._chunks.is_finished

    @property
    def dropped(self) -> int:
        """How many events held something that was neither understood nor passed on."""
        return self.undecodable + self._chunks.dropped

    @property
    def failure(self) -> AnswerFailed | None:
        """Why this is no complete answer; before `finish` only what more input cannot change."""
        return None if self._failure is None else AnswerFailed(self._failure)

    def feed(self, data: bytes) -> list[StreamPart]:
        """Take the next bytes and return what they complete."""
        pieces: list[StreamPart] = []
        if self.is_done:
            return pieces
        size = len(data)
        self._read(data, pieces)
        if any(not isinstance(piece, Usage) for piece in pieces):
            self._barren_bytes = 0
        else:
            self._barren_bytes += size
            if self._barren_bytes > MAX_BARREN_BYTES:
                self._fail(FailureCode.AI_INVALID)
        return pieces

    def _read(self, data: bytes, pieces: list[StreamPart]) -> None:
        if not self._has_begun:
            data = self._begin(data)
        if self._is_whole:
            self._hold(data)
            return
        if self._after_cr or b"\r" in data:
            data = self._unify_line_ends(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._held:
            lines[0] = self._take_held() + lines[0]
        for line in lines:
            if line or self._data:
                self._take_line(line, pieces)
            if self.is_done:
                return
        self._hold(rest)

    def finish(self) -> list[StreamPart]:
        """Take the end of the body: return what was still held, and settle `failure`."""
        pieces: list[StreamPart] = []
        rest = self._take_held()
        if not self.is_done and self._is_whole:
            self._take(rest, pieces)
        elif not self.is_done:
            if rest:
                self._take_line(rest, pieces)
            self._take_event(pieces, is_last=True)
        self._chunks.flush(pieces)
        self.is_done = True
        if self._failure is None:
            self._failure = self._chunks.settle()
            if self._failure and self._has_heard and not self._chunks.has_understood:
                self._failure = FailureCode.AI_INVALID
        return pieces

    def _begin(self, data: bytes) -> bytes:
        """Look for a byte order mark and at the first byte that is no white space: no event stream begins with `{`."""
        data = self._take_held() + data
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
        elif line.startswith(b":"):
            self.keep_alives += 1
        elif line.partition(b":")[0] not in _FIELDS:
            self._skip()

    def _take_event(self, pieces: list[StreamPart], is_last: bool = False) -> None:
        if not self._data:
            return
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        self._take(data, pieces, is_cut=is_last)

    def _take(self, data: bytes, pieces: list[StreamPart], is_cut: bool = False) -> None:
        """Decode one JSON document; `is_cut` when it may lack its end and that is no fault of its own."""
        if text := self._fast_path.text_in(data):
            self._chunks.say(text, pieces)
            return
        if data.strip() == b"[DONE]":
            self.is_done = True
            return
        try:
            chunk = decode(data)
            self._has_heard = True
            dropped = self._chunks.dropped
            self._chunks.read(chunk, pieces)
            if self._chunks.failure:
                self._fail(self._chunks.failure)
            elif self._fast_path.wants(data) and dropped == self._chunks.dropped and says_only_text(chunk):
                self._fast_path.learn(data, chunk)
        except (ValueError, RecursionError):  # no JSON, or nested too deep for any of the three
            if not is_cut:
                self._skip()

    def _add_data(self, data: bytes) -> None:
        self._data.append(data)
        self._grow(data)

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._grow(data)

    def _take_held(self) -> bytes:
        """Return what was held and hold nothing."""
        if not self._held:
            return b""
        held = b"".join(self._held)
        self._size -= len(held) + PIECE_BYTES * len(self._held)
        self._held.clear()
        return held

    def _grow(self, piece: bytes) -> None:
        self._size += len(piece) + PIECE_BYTES
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
