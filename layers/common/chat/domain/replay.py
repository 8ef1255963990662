"""A stored answer as events again, and an event log as the text it holds. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from chat.domain.answer import Answer, default_error_code
from chat.domain.events import Event, EventName
from chat.domain.model import Outcome, Source, StoredAnswer, Usage

PIECE_CHARACTERS = 8192
"""How much text one event of a replay carries at most."""


def replay(stored: StoredAnswer) -> list[Event]:
    """Return the events of an answer that has ended, from `start` to `done`."""
    answer = Answer(stored.identity)
    events = [answer.begin()]
    events += [answer.append_reasoning(piece) for piece in _pieces(stored.reasoning)]
    events += [answer.append_text(piece) for piece in _pieces(stored.text)]
    if sources := answer.add_sources(stored.sources):
        events.append(sources)
    error_code = stored.error_code or default_error_code(stored.status)
    outcome = Outcome(stored.status, stored.finish_reason, error_code)
    usage = stored.usage or Usage(0, 0, estimated=True)
    return events + answer.end(outcome, usage, stored.is_saved, stored.is_truncated)


def last_events(stored: StoredAnswer, following: int) -> list[Event]:
    """Return only how the answer ended; a `failure` gets the number `following`."""
    last = [event for event in replay(stored) if event.name in (EventName.FAILURE, EventName.DONE)]
    return [event._replace(number=following) if event.number else event for event in last]


def growth(stored: StoredAnswer, text: str, reasoning: str) -> list[Event]:
    """Return what the answer has beyond `text` and `reasoning`, as events for a stream without ids."""
    answer = Answer(stored.identity)
    answer.begin()
    thought = stored.reasoning[len(reasoning) :] if stored.reasoning.startswith(reasoning) else ""
    said = stored.text[len(text) :] if stored.text.startswith(text) else ""
    return [answer.append_reasoning(piece) for piece in _pieces(thought)] + [
        answer.append_text(piece) for piece in _pieces(said)
    ]


def restart(stored: StoredAnswer) -> Event:
    """Return a `start` numbered 0: who comes back with its id gets everything, not what followed an older one."""
    return Answer(stored.identity).begin()._replace(number=0)


class Logged(NamedTuple):
    """What the events of a log say, joined."""

    text: str
    reasoning: str
    sources: Sequence[Source]


def join(events: Sequence[Event]) -> Logged:
    """Join what `events` say."""
    text: list[str] = []
    reasoning: list[str] = []
    sources: list[Source] = []
    for event in events:
        if event.name == EventName.DELTA:
            text.append(json.loads(event.data)["delta"])
        elif event.name == EventName.REASONING:
            reasoning.append(json.loads(event.data)["delta"])
        elif event.name == EventName.SOURCES:
            sources += [Source(source["title"], source["url"]) for source in json.loads(event.data)["sources"]]
    return Logged("".join(text), "".join(reasoning), sources)


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
