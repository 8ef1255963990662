"""What one decoded chunk of an answer means: text, reasoning, sources, the end, tokens used, or an error. Pure.

Knows nothing of bytes, lines or time. Source: the reference of OpenAI's Chat Completions (streaming), and what services
that call themselves compatible with it are seen to send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from chat.application.ports import Finish, ReasoningDelta, SourcesAdded, StreamPart, TextDelta
from chat.domain.errors import FailureCode
from chat.domain.model import Source, Usage

_WEB_ADDRESS = re.compile(r"https?://[^\s\x00-\x20\x7f\ud800-\udfff]+", re.IGNORECASE)
_MAX_ADDRESS_CHARS = 2048
_MAX_TITLE_CHARS = 500
_MAX_REASON_CHARS = 64
_MAX_TOKENS = 1 << 31
_REASONING = ("reasoning_content", "reasoning")
_TEXT = ("content", "refusal")
"""A refusal is what the model says instead of an answer."""
_FURTHER_MEMBERS = ("error", "usage", "citations", "search_results")
_FURTHER_PARTS = (*_REASONING, "refusal", "annotations")
_NOTHING: dict[str, Any] = {}


class ChunkReader:
    """Turns the chunks of one answer into pieces; remembers what must not be said twice."""

    def __init__(self) -> None:
        self.has_understood = False
        """At least one chunk was of the expected form."""
        self.is_finished = False
        """The model gave a finish reason."""
        self.failure: FailureCode | None = None
        self._text = _Channel()
        self._reasoning = _Channel()
        self._addresses: set[str] = set()
        self._usage: Usage | None = None

    def read(self, chunk: dict[str, Any], pieces: list[StreamPart], message: str = "delta") -> None:
        """Append to `pieces` what `chunk` says that is new. `message` names the member of a choice that holds it."""
        choices = chunk.get("choices")
        choice = _NOTHING
        if isinstance(choices, list):
            self.has_understood = True
            choice = _first(choices)
        delta = choice.get(message)
        if isinstance(delta, dict):
            self._read_delta(delta, pieces)
        if "search_results" in chunk or "citations" in chunk:
            self._cite([*_listed(chunk, "search_results"), *_listed(chunk, "citations")], pieces)
        reason = choice.get("finish_reason")
        if chunk.get("error") or reason == "error" or (choices is None and chunk.get("object") == "error"):
            self.failure = FailureCode.AI_ERROR
            return
        if reason and isinstance(reason, str) and not self.is_finished:
            self.is_finished = True
            self.flush(pieces)
            pieces.append(Finish(_mend(reason[:_MAX_REASON_CHARS])))
        usage = chunk.get("usage")
        if usage:
            self._count(usage, pieces)

    def say(self, text: str, pieces: list[StreamPart]) -> None:
        """Append text of the answer, as much of it as can be delivered."""
        if text := self._text.add(text):
            pieces.append(TextDelta(text))

    def flush(self, pieces: list[StreamPart]) -> None:
        """Append what was held back for a second half that can no longer come."""
        if rest := self._reasoning.flush():
            pieces.append(ReasoningDelta(rest))
        if rest := self._text.flush():
            pieces.append(TextDelta(rest))

    def _read_delta(self, delta: dict[str, Any], pieces: list[StreamPart]) -> None:
        for name in _REASONING:
            reasoning = delta.get(name)
            if reasoning and isinstance(reasoning, str):
                self._think(reasoning, pieces)
                break  # services in transition send both, with the same words
        for name in _TEXT:
            content = delta.get(name)
            if content and isinstance(content, str):
                self.say(content, pieces)
            elif content and isinstance(content, list):
                self._read_parts(content, pieces)
        if "annotations" in delta:
            self._cite([_citation(entry) for entry in _listed(delta, "annotations")], pieces)

    def _read_parts(self, parts: list[Any], pieces: list[StreamPart]) -> None:
        for part in parts:
            if not isinstance(part, dict):
                continue
            text, thoughts = part.get("text") or part.get("refusal"), part.get("thinking")
            if text and isinstance(text, str):
                self.say(text, pieces)
            for thought in thoughts if isinstance(thoughts, list) else [{"text": thoughts}]:
                said = thought.get("text") if isinstance(thought, dict) else None
                if said and isinstance(said, str):
                    self._think(said, pieces)

    def _think(self, text: str, pieces: list[StreamPart]) -> None:
        if text := self._reasoning.add(text):
            pieces.append(ReasoningDelta(text))

    def _cite(self, entries: list[object], pieces: list[StreamPart]) -> None:
        new = []
        for source in _sources(entries):
            if source.url not in self._addresses:
                self._addresses.add(source.url)
                new.append(source)
        if new:
            pieces.append(SourcesAdded(tuple(new)))

    def _count(self, usage: object, pieces: list[StreamPart]) -> None:
        if not isinstance(usage, dict):
            return
        input_tokens, output_tokens = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
        if input_tokens is None or output_tokens is None:
            return
        found = Usage(input_tokens, output_tokens)
        if found != self._usage:  # some repeat it in every chunk
            self._usage = found
            pieces.append(found)


class _Channel:
    """Text in pieces that may be cut between the two halves of a surrogate pair; what it returns is valid Unicode."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Return what can be delivered; a first half at the end is held until the next text or `flush`."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return _mend(text[:-1] if self._held else text)

    def flush(self) -> str:
        rest, self._held = self._held, ""
        return _mend(rest)


def says_only_text(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk says nothing but some text, and that in the first of its choices."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or any(chunk.get(name) for name in _FURTHER_MEMBERS):
        return False
    choice = _first(choices)
    delta = choice.get("delta")
    if choice is _NOTHING or choice is not choices[0] or choice.get("finish_reason") or not isinstance(delta, dict):
        return False
    return isinstance(delta.get("content"), str) and not any(delta.get(name) for name in _FURTHER_PARTS)


def _mend(text: str) -> str:
    """Join surrogates that belong together and replace the others by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _first(choices: list[Any]) -> dict[str, Any]:
    """Return the first choice; where several are asked for, chunks of the others come with an index above 0."""
    for choice in choices:
        if isinstance(choice, dict):
            index = choice.get("index")
            if not (index and isinstance(index, int)):
                return choice
    return _NOTHING


def _tokens(count: object) -> int | None:
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _MAX_TOKENS
    return cast(int, count) if is_count else None


def _listed(parent: dict[str, Any], name: str) -> list[object]:
    found = parent.get(name)
    return found if isinstance(found, list) else []


def _citation(annotation: object) -> object:
    return annotation.get("url_citation") if isinstance(annotation, dict) else None


def _sources(entries: list[object]) -> Iterator[Source]:
    """Yield those entries, addresses or objects with a title, that lead to a page on the web."""
    for entry in entries:
        url, title = (entry.get("url"), entry.get("title")) if isinstance(entry, dict) else (entry, None)
        if not isinstance(url, str) or len(url) > _MAX_ADDRESS_CHARS or not _WEB_ADDRESS.fullmatch(url):
            continue
        named = _mend(title).strip()[:_MAX_TITLE_CHARS] if isinstance(title, str) else ""
        yield Source(named or url, url)
