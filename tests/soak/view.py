"""One client's view of an answer, and what is wrong with it. Pure: fed with events, whatever they came through."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

FAILED = {"failed", "timeout", "interrupted"}


@dataclass(slots=True)
class Event:
    """One server-sent event, and when it came (monotonic seconds)."""

    id: str
    name: str
    data: Any
    at: float = 0.0


@dataclass(slots=True)
class View:
    """What a client has of one answer, over all its connections."""

    message_id: str = ""
    user_message_id: str = ""
    deltas: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each of the deltas came."""
    thoughts: list[str] = field(default_factory=list)
    sources: list[dict[str, str]] = field(default_factory=list)
    done: dict[str, Any] | None = None
    last_id: str = ""
    """What a reconnecting client sends as Last-Event-ID; it stays when events without ids follow."""
    last_number: int = 0
    wrong: list[str] = field(default_factory=list)
    restarts: int = 0
    """How often a `start` came in the middle of a connection."""
    lost: list[tuple[str, float]] = field(default_factory=list)
    """Texts that a `start` had this client forget, and when their last delta had come."""
    _has_ids: bool = True
    _failure: bool = False
    _resumes: bool = False

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    def reconnect(self) -> None:
        """Note that what comes now comes through another connection."""
        self._resumes = True

    def take(self, event: Event) -> None:
        """Take the next event."""
        resumes, self._resumes = self._resumes, False
        self.last_id = event.id or self.last_id
        if self.done is not None:
            self.wrong.append("a second done" if event.name == "done" else f"{event.name} after done")
            return
        if event.name == "start":
            self._begin(event, resumes)
        if event.name == "done":
            self._end(event)
            return
        self._count(event)
        if self._failure:
            self.wrong.append(f"{event.name} between failure and done")
        if event.name == "message":
            self.deltas.append(event.data["delta"])
            self.times.append(event.at)
        elif event.name == "reasoning":
            self.thoughts.append(event.data["delta"])
        elif event.name == "sources":
            self.sources += event.data["sources"]
        elif event.name == "failure":
            self._failure = True
        elif event.name != "start":
            self.wrong.append(f"an unknown event {event.name}")

    def _begin(self, event: Event, resumes: bool) -> None:
        if self.message_id and not resumes:
            self.restarts += 1
        if self.deltas:
            self.lost.append((self.text, self.times[-1]))
        if self.message_id and event.data["messageId"] != self.message_id:
            self.wrong.append("another answer on resume")
        self.message_id, self.user_message_id = event.data["messageId"], event.data["userMessageId"]
        self.deltas, self.times, self.thoughts, self.sources = [], [], [], []
        self.last_number, self._failure = 0, False
        self._has_ids = event.id not in ("", f"{self.message_id}:start")

    def _count(self, event: Event) -> None:
        if not self.message_id:
            self.wrong.append(f"{event.name} before start")
        if not self._has_ids:
            if event.id and event.name != "start":
                self.wrong.append("an id in the middle of a replay without ids")
            return
        self.last_number += 1
        if event.id != f"{self.message_id}:{self.last_number}":
            self.wrong.append(f"id {event.id} in place of {self.message_id}:{self.last_number}")
            self.last_number = int(event.id.rpartition(":")[2] or 0) if event.id else self.last_number

    def _end(self, event: Event) -> None:
        self.done = event.data
        if event.id != f"{self.message_id}:done":
            self.wrong.append(f"id {event.id} of done")
        if self._failure != (event.data["status"] in FAILED):
            self.wrong.append(f"status {event.data['status']} {'with' if self._failure else 'without'} a failure")


def read_event(block: bytes, at: float) -> Event | None:
    """Read what stands between two empty lines; None for comments only."""
    fields = {"id": "", "event": "message", "data": ""}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        if name in fields:
            fields[name] = value
    return Event(fields["id"], fields["event"], json.loads(fields["data"]), at) if fields["data"] else None
