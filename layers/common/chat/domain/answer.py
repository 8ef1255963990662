"""The state machine of one answer: what has been said, in order and numbered, and how it ended. Pure.

    state       begin       append_*, add_*       end
    new         streaming   -                     -
    streaming   -           streaming             ended
    ended       -           -                     -

A transition marked `-` raises IllegalTransition and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import overload

from chat.domain.errors import FAILURES, FailureCode
from chat.domain.events import Event, EventName
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage

_MAX_PIECES = 64
"""Texts are joined when there are so many: each string costs 50 bytes beside its characters."""


class IllegalTransition(RuntimeError):
    """The answer is not in a state in which this can happen."""


def to_json(value: object) -> str:
    """Return compact JSON on one line, not escaped to ASCII."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Events(Sequence[Event]):
    """An answer's events from number 1 on without a gap. Kept as what cannot be derived: strings, mostly no names.

    An answer has thousands of events and a process hundreds of answers: a tuple for each would take twice the memory,
    and the garbage collector would look at all of them again and again.
    """

    def __init__(self) -> None:
        self._data: list[str] = []
        self._names: dict[int, str] = {}
        """Of those that are no deltas, by index."""

    def add(self, name: str, data: str) -> Event:
        """Add an event; its place is its number."""
        if name:
            self._names[len(self._data)] = name
        self._data.append(data)
        return Event(0 if name == EventName.DONE else len(self._data), name, data)

    def count_of(self, name: str) -> int:
        """Return how many have this name."""
        if name == EventName.DELTA:
            return len(self._data) - len(self._names)
        return sum(known == name for known in self._names.values())

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self._event(at) for at in range(*index.indices(len(self._data)))]
        return self._event(range(len(self._data))[index])

    def _event(self, at: int) -> Event:
        name = self._names.get(at, EventName.DELTA)
        return Event(0 if name == EventName.DONE else at + 1, name, self._data[at])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes


class Answer:
    """One answer while it is generated, or rebuilt from its log. Its events are its only history."""

    def __init__(self, identity: AnswerIds) -> None:
        self.identity = identity
        self.events = Events()
        self.sources: list[Source] = []
        self.outcome: Outcome | None = None
        self.usage: Usage | None = None
        self.characters = 0
        self.dropped = 0
        """How many events of the AI could be neither understood nor passed on."""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._state = "new"

    @property
    def text(self) -> str:
        """All deltas joined."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def reasoning(self) -> str:
        """All reasoning deltas joined."""
        if len(self._reasoning) > 1:
            self._reasoning = ["".join(self._reasoning)]
        return self._reasoning[0] if self._reasoning else ""

    def begin(self) -> Event:
        """Make the `start` event."""
        self._step("new", "streaming")
        identity = self.identity
        return self.events.add(
            EventName.START,
            to_json(
                {
                    "chatId": identity.chat_id,
                    "messageId": identity.message_id,
                    "userMessageId": identity.user_message_id,
                    "sessionId": identity.session_id,
                    "model": identity.model,
                }
            ),
        )

    def append_text(self, delta: str) -> Event:
        """Add text."""
        self._step("streaming", "streaming")
        self._text.append(delta)
        if len(self._text) > _MAX_PIECES:
            self._text = [self.text]
        self.characters += len(delta)
        return self.events.add(EventName.DELTA, '{"delta":' + encode_basestring(delta) + "}")

    def append_reasoning(self, delta: str) -> Event:
        """Add reasoning."""
        self._step("streaming", "streaming")
        self._reasoning.append(delta)
        return self.events.add(EventName.REASONING, '{"delta":' + encode_basestring(delta) + "}")

    def add_sources(self, sources: Sequence[Source]) -> Event | None:
        """Add those sources whose URL is new; None when none is."""
        self._step("streaming", "streaming")
        known = {source.url for source in self.sources}
        new = []
        for source in sources:
            if source.url not in known:
                known.add(source.url)
                new.append(source)
        if not new:
            return None
        self.sources.extend(new)
        return self.events.add(EventName.SOURCES, to_json({"sources": [{"title": s.title, "url": s.url} for s in new]}))

    def add_title(self, title: str) -> Event:
        """Tell the title that the chat has got."""
        self._step("streaming", "streaming")
        return self.events.add(EventName.TITLE, to_json({"title": title}))

    def end(self, outcome: Outcome, usage: Usage, is_saved: bool = True, is_truncated: bool = False) -> list[Event]:
        """Make the last events: `failure` where there is one, then `done`."""
        self._step("streaming", "ended")
        self.outcome, self.usage = outcome, usage
        events = []
        if outcome.error_code is not None:
            code = FailureCode(outcome.error_code)
            known = FAILURES[code]
            failure = {"code": code, "message": outcome.message or known.message, "retryable": known.retryable}
            events.append(self.events.add(EventName.FAILURE, to_json(failure)))
        done: dict[str, object] = {
            "status": outcome.status,
            "finishReason": outcome.finish_reason,
            "messageId": self.identity.message_id,
            "usage": _usage(usage),
            "characters": self.characters,
        }
        if not is_saved:
            done["saved"] = False
        if is_truncated:
            done["truncated"] = True
        if self.dropped:
            done["dropped"] = {"events": self.dropped}
        return [*events, self.events.add(EventName.DONE, to_json(done))]

    def _step(self, expected: str, following: str) -> None:
        if self._state != expected:
            raise IllegalTransition(f"the answer is {self._state}, not {expected}")
        self._state = following


def _usage(usage: Usage) -> dict[str, object]:
    """Return the tokens used, of which the details only where the AI told them."""
    details = {"cachedTokens": usage.cached_tokens, "reasoningTokens": usage.reasoning_tokens}
    counts: dict[str, object] = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "estimated": usage.estimated,
    }
    return counts | {name: count for name, count in details.items() if count is not None}


def default_error_code(status: Status) -> str | None:
    """Return the failure code that a status brings with it when nothing more exact is known."""
    return {
        Status.FAILED: FailureCode.INTERNAL_ERROR,
        Status.TIMEOUT: FailureCode.DEADLINE,
        Status.INTERRUPTED: FailureCode.INTERRUPTED,
    }.get(status)
