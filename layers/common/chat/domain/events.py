"""The events of an answer's stream, before they are framed."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class EventName(StrEnum):
    """The `event:` field of each kind of server-sent event; deltas have none."""

    START = "start"
    DELTA = ""
    """Text. Without an `event:` field, so that a plain `onmessage` receives exactly the answer's text."""
    REASONING = "reasoning"
    SOURCES = "sources"
    TITLE = "title"
    """The chat has got a title by the AI."""
    FAILURE = "failure"
    DONE = "done"
    """Always last, exactly once."""


class Event(NamedTuple):
    """One server-sent event before it is framed."""

    number: int
    """Counts up from 1 without gaps; 0 for `done`, whose id is no number, and for a `start` that outdates all ids."""
    name: str
    """An `EventName`, as a plain string where it comes from a log."""
    data: str
    """JSON on one line."""
