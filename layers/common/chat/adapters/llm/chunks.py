"""What one decoded chunk of an answer means: text, reasoning, sources, the end, tokens used, or an error. Pure.

Knows nothing of bytes, lines or time. Source: the reference of OpenAI's Chat Completions (streaming), and what services
that call themselves compatible with it are seen to send (docs/upstream.md has the table).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from chat.adapters.llm.think_tags import ThinkTags
from chat.application.ports import Finish, ReasoningDelta, SourcesAdded, StreamPart, TextDelta
from chat.domain.errors import FailureCode
from chat.domain.model import Source, Usage

MAX_SOURCES = 300
"""How many sources of one answer are kept; a search returns some tens."""

_WEB_ADDRESS = re.compile(r"https?://[^\s\x00-\x20\x7f\ud800-\udfff]+", re.IGNORECASE)
_MAX_ADDRESS_CHARS = 2048
_MAX_TITLE_CHARS = 500
_MAX_TOKENS = 1 << 31

_NO_REASONS = frozenset({"", "null", "none", "nil", "undefined", "unspecified", "finish_reason_unspecified"})
"""What stands in chunks before the last one where others say null."""
_REASONS = {
    "length": ("max_tokens", "max_output_tokens", "max_length", "max_new_tokens", "model_length", "token_limit",
               "model_context_window_exceeded", "context_length_exceeded"),
    "content_filter": ("content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii", "refusal",
                       "guardrail_intervened", "sensitive", "image_safety"),
}  # fmt: skip
_REASON = {word: reason for reason, words in _REASONS.items() for word in (reason, *words)}
"""The contract's words; every other one, such as `end_turn` or `eos`, says that the model came to its end: `stop`."""
_BROKEN_OFF = frozenset({
    "abort", "aborted", "cancel", "canceled", "cancelled", "failed", "incomplete", "insufficient_system_resource",
    "interrupted", "network_error", "overloaded", "server_error", "timeout", "unavailable",
})  # fmt: skip
"""Generation ended, but not the answer."""

_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Services in transition send several at once, with the same words."""
_REASONING_PARTS = ("thinking", "reasoning", "reasoning_text", "reasoning.text", "reasoning.summary", "summary_text")
_TEXT = ("content", "refusal")
"""A refusal is what the model says instead of an answer."""
_FURTHER_MEMBERS = ("error", "usage", "citations", "search_results")
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
"""Input that cost less, as OpenAI, DeepSeek and Anthropic call it."""
_CALLS = ("tool_calls", "function_call")
_NOTHING: dict[str, Any] = {}
_WORDS = frozenset({
    "answer", "completion", "content", "delta", "generated_text", "message", "output", "output_text", "response",
    "text", "token", "transcript", "arguments",
})  # fmt: skip
"""Members that hold text in other protocols."""
_MAX_DEPTH, _MAX_WIDTH = 5, 16


class ChunkReader:
    """Turns the chunks of one answer into parts; remembers what must not be said twice."""

    def __init__(self, think_tags: bool = True) -> None:
        self.has_understood = False
        """At least one chunk was of the expected form."""
        self.is_finished = False
        """The model gave a finish reason."""
        self.failure: FailureCode | None = None
        """Why nothing more is to be read."""
        self.dropped = 0
        """How many chunks held something for a reader that could not be understood or passed on."""
        self._reason: str | None = None
        self._is_broken_off = False
        self._has_called = False
        """The model called a tool or a function, though none was offered."""
        self._has_text = False
        self._text = _Channel()
        self._reasoning = _Channel()
        self._tags = ThinkTags(think_tags)
        self._so_far: dict[str, _SoFar] = {}
        self._addresses: set[str] = set()
        self._usage: Usage | None = None

    def read(self, chunk: dict[str, Any], parts: list[StreamPart]) -> None:
        """Append to `parts` what `chunk` says that is new."""
        choices = chunk.get("choices")
        choice, has_dropped = _NOTHING, False
        if isinstance(choices, list):
            self.has_understood = True
            choice = _first(choices)
            has_dropped = len(choices) > (choice is not _NOTHING) and any(
                other is not choice and _holds_words(other) for other in choices[:_MAX_WIDTH]
            )
        elif not any(chunk.get(name) for name in _FURTHER_MEMBERS):
            has_dropped = _holds_words(chunk)
        if choice is not _NOTHING and not self._read_choice(choice, parts):
            has_dropped = True
        self.dropped += has_dropped
        if "search_results" in chunk or "citations" in chunk:
            self._cite([*_listed(chunk, "search_results"), *_listed(chunk, "citations")], parts)
        reason = choice.get("finish_reason")
        if chunk.get("error") or reason == "error" or (choices is None and chunk.get("object") == "error"):
            self.failure = FailureCode.AI_ERROR
            return
        if reason and isinstance(reason, str):
            self._finish(reason.strip().lower(), parts)
        for usage in _usages(chunk, choice):
            if self._count(usage, parts):
                break

    def say(self, text: str, parts: list[StreamPart]) -> None:
        """Append text of the answer, as much of it as can be delivered."""
        if not (text := self._text.add(text)):
            return
        if not self._tags.is_over:
            reasoning, text = self._tags.split(text)
            if reasoning:
                parts.append(ReasoningDelta(reasoning))
        if text:
            self._has_text = True
            parts.append(TextDelta(text))

    def flush(self, parts: list[StreamPart]) -> None:
        """Append what was held back for a second half that can no longer come."""
        rest_of_reasoning = self._reasoning.flush()
        reasoning, rest = self._tags.split(self._text.flush())
        reasoning_held, text_held = self._tags.flush()
        if reasoning := rest_of_reasoning + reasoning + reasoning_held:
            parts.append(ReasoningDelta(reasoning))
        if text := rest + text_held:
            self._has_text = True
            parts.append(TextDelta(text))

    def settle(self) -> FailureCode | None:
        """Return why what was read is no complete answer, at the end of the body; None if it is one."""
        if self.failure is not None:
            return self.failure
        if self._is_broken_off:
            return FailureCode.AI_INCOMPLETE
        if self.is_finished and self._has_called and not self._has_text:
            return FailureCode.AI_INVALID
        return None if self.is_finished else FailureCode.AI_INCOMPLETE

    def _finish(self, word: str, parts: list[StreamPart]) -> None:
        """Take a finish reason; the last one counts."""
        if word in _NO_REASONS:
            return
        if not self.is_finished:
            self.is_finished = True
            self.flush(parts)
        self._is_broken_off = word in _BROKEN_OFF
        self._has_called = self._has_called or word in _CALLS
        reason = _REASON.get(word, "stop")
        if not self._is_broken_off and reason != self._reason:
            self._reason = reason
            parts.append(Finish(reason))

    def _read_choice(self, choice: dict[str, Any], parts: list[StreamPart]) -> bool:
        """Read what a choice says; False when something of it could not be understood."""
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, str):  # a text by itself
            delta = {"content": delta}
        is_read = not delta or isinstance(delta, dict)
        if isinstance(delta, dict) and delta:
            is_read = self._read_delta(delta, parts)
        if isinstance(message, dict) and not self._has_text_in_deltas(delta):
            is_read = self._read_message(message, parts) and is_read
        text = choice.get("text")  # the older Completions
        if text:
            is_read = self._read_content(text, parts) and is_read
        return is_read

    def _has_text_in_deltas(self, delta: object) -> bool:
        """Tell whether the answer comes in deltas, beside which a message repeats what they said."""
        return (isinstance(delta, dict) and bool(delta.get("content"))) or (self._has_text and not self._so_far)

    def _read_delta(self, delta: dict[str, Any], parts: list[StreamPart]) -> bool:
        for name in _REASONING:
            if self._read_reasoning(delta.get(name), parts):
                break
        is_read = True
        for name in _TEXT:
            content = delta.get(name)
            if content or content == 0:
                is_read = self._read_content(content, parts) and is_read
        if "annotations" in delta:
            self._cite([_citation(entry) for entry in _listed(delta, "annotations")], parts)
        if any(delta.get(name) for name in _CALLS):
            self._has_called, is_read = True, False
        return is_read and not delta.get("audio")

    def _read_message(self, message: dict[str, Any], parts: list[StreamPart]) -> bool:
        """Read a message that is whole, or whole so far: only what is new in it is said."""
        new = dict(message)
        for name in (*_REASONING, *_TEXT):
            if isinstance(content := message.get(name), str):
                new[name] = self._so_far.setdefault(name, _SoFar()).new_in(content)
        return self._read_delta(new, parts)

    def _read_content(self, content: object, parts: list[StreamPart]) -> bool:
        """Say a content of any type that has one obvious form as text; False if this has none."""
        if isinstance(content, str):
            self.say(content, parts)
        elif isinstance(content, int | float) and not isinstance(content, bool):
            self.say(str(content), parts)
        elif isinstance(content, dict):
            return self._read_part(content, parts)
        elif isinstance(content, list):
            is_read = True
            for part in content:
                is_read = self._read_content(part, parts) and is_read
            return is_read
        else:
            return not content
        return True

    def _read_part(self, part: dict[str, Any], parts: list[StreamPart]) -> bool:
        """Read a part of a content, `{"type": "text", "text": "Hi"}` and its like."""
        if part.get("type") in _REASONING_PARTS or "thinking" in part:
            return self._read_reasoning(part, parts)
        for name in ("text", "refusal", "content", "value"):
            if found := part.get(name):
                return self._read_content(found, parts)
        return "text" in part

    def _read_reasoning(self, found: object, parts: list[StreamPart]) -> bool:
        """Append the words of some reasoning in whatever form; False if there are none."""
        if isinstance(found, str):
            self._think(found, parts)
            return bool(found)
        if isinstance(found, list):
            has_words = False
            for entry in found:
                has_words = self._read_reasoning(entry, parts) or has_words
            return has_words
        if isinstance(found, dict):
            for name in ("text", "thinking", "summary", "content", "reasoning"):
                if said := found.get(name):
                    return self._read_reasoning(said, parts)
        return False

    def _think(self, text: str, parts: list[StreamPart]) -> None:
        if text := self._reasoning.add(text):
            parts.append(ReasoningDelta(text))

    def _cite(self, entries: list[object], parts: list[StreamPart]) -> None:
        new = []
        for source in _sources(entries):
            if len(self._addresses) >= MAX_SOURCES:
                break
            if source.url not in self._addresses:
                self._addresses.add(source.url)
                new.append(source)
        if new:
            parts.append(SourcesAdded(tuple(new)))

    def _count(self, usage: dict[str, Any], parts: list[StreamPart]) -> bool:
        """Take the tokens used, if it says so in numbers."""
        input_tokens = _first_count(usage, "prompt_tokens", "input_tokens")
        output_tokens = _first_count(usage, "completion_tokens", "output_tokens")
        if input_tokens is None or output_tokens is None:
            return False
        cached = _detail(usage, ("prompt_tokens_details", "input_tokens_details"), *_CACHED)
        reasoning = _detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        found = Usage(input_tokens, output_tokens, cached_tokens=cached, reasoning_tokens=reasoning)
        if found != self._usage:  # some repeat it in every chunk
            self._usage = found
            parts.append(found)
        return True


class _SoFar:
    """A text that is sent whole, as far as it goes, again and again; or, as some do, in deltas after all."""

    def __init__(self) -> None:
        self._text = ""
        self._is_whole = True

    def new_in(self, text: str) -> str:
        """Return what has not been sent before."""
        if self._is_whole and text.startswith(self._text):
            new, self._text = text[len(self._text) :], text
            return new
        if self._is_whole and self._text.startswith(text):
            return ""
        self._is_whole = False
        return text


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
    """Tell whether a chunk says nothing but some text, and that in its only choice."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or any(chunk.get(name) for name in _FURTHER_MEMBERS):
        return False
    choice = _first(choices)
    delta = choice.get("delta")
    if not isinstance(delta, dict) or any(choice.get(name) for name in choice if name not in ("index", "delta")):
        return False
    has_further = any(delta.get(name) for name in delta if name not in ("role", "content"))
    return isinstance(delta.get("content"), str) and not has_further


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


def _holds_words(value: object, depth: int = 0) -> bool:
    """Tell whether something that is not understood holds text for a reader, judging by the names of its members."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, list):
        return any(_holds_words(entry, depth + 1) for entry in value[:_MAX_WIDTH])
    if not isinstance(value, dict):
        return False
    return any(
        (bool(found) and name in _WORDS) if isinstance(found, str) else _holds_words(found, depth + 1)
        for name, found in value.items()
    )


def _usages(chunk: dict[str, Any], choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what may say how many tokens were used: at the top, in a vendor's member, in the choice."""
    places = (chunk, choice, *(value for value in chunk.values() if isinstance(value, dict)))
    for place in places:
        usage = place.get("usage")
        if usage and isinstance(usage, dict):
            yield usage


def _first_count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        count = usage.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _MAX_TOKENS:
            return count
    return None


def _detail(usage: dict[str, Any], places: tuple[str, ...], *names: str) -> int | None:
    """Return a count that stands in one of the `places`, or beside them."""
    for place in (*(usage.get(name) for name in places), usage):
        if isinstance(place, dict) and (count := _first_count(place, *names)) is not None:
            return count
    return None


def _listed(parent: dict[str, Any], name: str) -> list[object]:
    found = parent.get(name)
    return found if isinstance(found, list) else []


def _citation(annotation: object) -> object:
    """Return what an annotation cites: nested below `url_citation`, or flat."""
    return annotation.get("url_citation") or annotation if isinstance(annotation, dict) else None


def _sources(entries: list[object]) -> Iterator[Source]:
    """Yield those entries, addresses or objects with a title, that lead to a page on the web."""
    for entry in entries:
        url, title = (entry.get("url"), entry.get("title")) if isinstance(entry, dict) else (entry, None)
        if not isinstance(url, str) or len(url) > _MAX_ADDRESS_CHARS or not _WEB_ADDRESS.fullmatch(url):
            continue
        named = _mend(title).strip()[:_MAX_TITLE_CHARS] if isinstance(title, str) else ""
        yield Source(named or url, url)
