"""How an answer's events lie in a Redis stream: a batch an entry, numbered by the last event in it.

An entry's id is `<n>-0`, n the number of its last event; its field `f` is the number of its first, its field `e` the
events, one a line: name, tab, data. Data is JSON on one line, so it holds neither tab nor line feed. The answer's last
event, which has no number of its own, takes the next one.
Entries may overlap after a repeated append; a reader skips what it has.

Source: Valkey command reference, XADD (ids must grow) and XRANGE (exclusive ranges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chat.adapters.redis import keys
from chat.adapters.redis.connection import Command
from chat.application.ports import LogPage
from chat.domain.events import Event, EventName


def append(chat_id: str, message_id: str, first: int, events: Sequence[Event], is_new: bool) -> Command:
    """Make the command that appends `events`, the first of which is number `first`.

    Unless the log `is_new` it must exist: one that was lost is noticed (the reply is None), not begun in its middle.
    """
    key = keys.events(chat_id, message_id)
    last = first + len(events) - 1
    lines = "\n".join([f"{name}\t{data}" for _, name, data in events])
    if is_new:
        return ("XADD", key, f"{last}-0", "f", first, "e", lines)
    return ("XADD", key, "NOMKSTREAM", f"{last}-0", "f", first, "e", lines)


def read(chat_id: str, message_id: str, after: int) -> tuple[Command, Command]:
    """Make the commands whose replies `page` takes."""
    key = keys.events(chat_id, message_id)
    return ("XRANGE", key, f"({after}-0", "+"), ("EXISTS", key)


def page(entries: Sequence[Any], exists: int, after: int) -> LogPage | None:
    """Turn the replies into the events after number `after`; None without a log, or with a hole in it."""
    if not exists:
        return None
    events: list[Event] = []
    following = after + 1
    for _, fields in entries:
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        first = int(values[b"f"])
        if first > following:
            return None
        lines = values[b"e"].decode().split("\n")
        for number, line in enumerate(lines, first):
            if number < following:
                continue
            name, _, data = line.partition("\t")
            events.append(Event(0 if name == EventName.DONE else number, name, data))
            following += 1
    return LogPage(events, bool(events) and events[-1].name == EventName.DONE)
