"""Server-sent events as bytes.

Source: WHATWG HTML, section 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chat.domain.events import Event, EventName

Encode = Callable[[Sequence[Event], bool], bytes]
"""Returns events as bytes, with ids or, but for the last one, without."""

COMMENT = b":\n"
"""A comment between events: says nothing, keeps the connection from looking idle.

No empty line follows: for it some clients (httpx-sse, fetch-event-source) deliver an event without data.
"""

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


def encoder(message_id: str) -> Encode:
    """Return what encodes the events of this answer."""
    return lambda events, with_ids: encode_events(events, message_id, with_ids)


def encode_events(events: Iterable[Event], message_id: str, with_ids: bool = True) -> bytes:
    """Encode events one after the other; the last event of an answer always carries its id.

    A `start` of number 0 outdates all ids before it and carries `<messageId>:start`: docs/adr/0008.
    The id is an event's last line: some clients (fetch-event-source) remember it as soon as they have read it, and a
    connection that breaks in the middle of the event would lose the rest of it.
    """
    lines: list[str] = []
    for number, name, data in events:
        if name:
            lines.append(f"event: {name}\n")
        if name == EventName.DONE:
            lines.append(f"data: {data}\nid: {message_id}:done\n\n")
        elif with_ids:
            lines.append(f"data: {data}\nid: {message_id}:{number or 'start'}\n\n")
        else:
            lines.append(f"data: {data}\n\n")
    return "".join(lines).encode()
