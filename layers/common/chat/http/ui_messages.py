"""An answer's events as the AI SDK's UI message stream, which `useChat` reads. One more projection of the same events.

Source: ai-sdk.dev, "Stream Protocols", data stream protocol; the chunk schema of npm's `ai` 5, 6 and 7, which refuses
members that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from chat.domain.answer import to_json
from chat.domain.events import Event, EventName
from chat.domain.model import Status

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
"""By which the AI SDK knows the protocol, beside those of any event stream."""
_TEXT, _REASONING = "text", "reasoning"


class UiMessageEncoder:
    """Encodes one response. It knows which part of the message is open: text or reasoning.

    A part has an id of its own: `text-3` begins with event 3. Several chunks may come from one event; the SSE id is on
    the last of them, so that who comes back with it goes on behind the whole event.
    """

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id
        self._open = ""
        """The id of the open part; empty when there is none."""
        self._kind = ""
        self._parts = 0
        self._sources: set[str] = set()
        self._said = {_TEXT: 0, _REASONING: 0}
        """How many characters of each were sent."""
        self._known = {_TEXT: 0, _REASONING: 0}
        """How many of the next ones the client has, because the answer is told from its beginning again."""

    def __call__(self, events: Sequence[Event], with_ids: bool = True) -> bytes:
        """Return the bytes of `events`; without ids only the last event of the answer carries one."""
        framed: list[str] = []
        for event in events:
            chunks = list(self._chunks(event))
            is_last = event.name == EventName.DONE
            framed += [f"data: {chunk}\n\n" for chunk in chunks[:-1]]
            if chunks:
                place = "done" if is_last else event.number or "start"
                event_id = f"id: {self._message_id}:{place}\n" if with_ids or is_last else ""
                framed.append(f"data: {chunks[-1]}\n{event_id}\n")
            if is_last:
                framed.append("data: [DONE]\n\n")
        return "".join(framed).encode()

    def _chunks(self, event: Event) -> Iterator[str]:
        match event.name:
            case EventName.DELTA:
                yield from self._delta(_TEXT, event)
            case EventName.REASONING:
                yield from self._delta(_REASONING, event)
            case EventName.START:
                yield from self._start(json.loads(event.data))
            case EventName.SOURCES:
                for source in json.loads(event.data)["sources"]:
                    yield from self._source(source)
            case EventName.FAILURE:
                failure = json.loads(event.data)
                yield from self._close()
                yield _chunk("message-metadata", messageMetadata={"failure": failure})
                yield _chunk("error", errorText=failure["message"])
            case EventName.DONE:
                done = json.loads(event.data)
                yield from self._close()
                if done["status"] == Status.CANCELLED:
                    yield _chunk("abort")
                del done["messageId"]
                yield _chunk("finish", messageMetadata=done)
            case name:
                yield _chunk(f"data-{name}", data=json.loads(event.data), transient=True)

    def _start(self, start: dict[str, Any]) -> Iterator[str]:
        """Begin the message; when it is told once more from its beginning, leave out as much as was sent."""
        yield from self._close()
        self._known = dict(self._said)
        self._said = {_TEXT: 0, _REASONING: 0}
        yield _chunk("start", messageId=start.pop("messageId"), messageMetadata=start)

    def _delta(self, kind: str, event: Event) -> Iterator[str]:
        data, delta = event.data, json.loads(event.data)["delta"]
        self._said[kind] += len(delta)
        if self._known[kind]:
            new = delta[self._known[kind] :]
            self._known[kind] -= len(delta) - len(new)
            if not new:
                return
            data = to_json({"delta": new})
        if self._kind != kind:
            yield from self._close()
            self._parts += 1
            self._kind, self._open = kind, f"{kind}-{event.number or self._parts}"
            yield f'{{"type":"{kind}-start","id":"{self._open}"}}'
        yield f'{{"type":"{kind}-delta","id":"{self._open}",{data[1:]}'

    def _source(self, source: dict[str, str]) -> Iterator[str]:
        if source["url"] not in self._sources:
            self._sources.add(source["url"])
            number = len(self._sources)
            yield _chunk("source-url", sourceId=f"source-{number}", url=source["url"], title=source["title"])

    def _close(self) -> Iterator[str]:
        if self._open:
            yield _chunk(f"{self._kind}-end", id=self._open)
            self._open = self._kind = ""


def _chunk(kind: str, **members: object) -> str:
    return to_json({"type": kind, **members})
