"""What Redis does for the use cases, in memory, in the simplest way, and able to be down."""

import asyncio
from collections.abc import Callable

from chat.application.ports import AdmissionRequest, LogPage, OwnerStatus, StreamRequest
from chat.application.telemetry_events import ActiveAnswersCounted, FallbackTaken, TelemetryEvent
from chat.domain.answer import Answer
from chat.domain.errors import StorageUnavailable
from chat.domain.events import Event
from chat.domain.model import FinalAnswer


class MemoryCoordination:
    """One Redis, shared by as many processes as attach to it."""

    def __init__(self) -> None:
        self.is_away = False
        self.cancels: set[tuple[str, str]] = set()
        self.intents: set[tuple[str, str]] = set()
        self.leases: set[str] = set()
        self.logs: dict[str, list[Event]] = {}
        self.discarded: list[str] = []
        self.parked: dict[str, FinalAnswer] = {}
        self.lines: list[MemoryAnswerLease] = []

    def claim(self, answer: Answer, owner_token: str, user_id: str, on_cancel: Callable[[], None]):
        line = MemoryAnswerLease(self, answer, on_cancel)
        self.lines.append(line)
        return line

    async def request_cancel(self, chat_id: str, message_id: str, by_session: str) -> None:
        await self._trip()
        self.cancels.add((chat_id, message_id))
        for line in self.lines:
            if line.answer.identity.message_id == message_id:
                line.on_cancel()

    async def put_pending_cancel(self, chat_id: str, user_message_id: str, by_session: str) -> None:
        await self._trip()
        self.intents.add((chat_id, user_message_id))

    async def delete_pending_cancel(self, chat_id: str, user_message_id: str) -> None:
        self.intents.discard((chat_id, user_message_id))

    async def read(self, chat_id: str, message_id: str, after: int) -> LogPage | None:
        await self._trip()
        if message_id not in self.logs:
            return None
        events = self.logs[message_id][after:]
        return LogPage(events, bool(events) and events[-1].name == "done")

    async def owner_status(self, chat_id: str, message_id: str) -> OwnerStatus | None:
        if self.is_away:
            return None
        return OwnerStatus(message_id in self.leases, self.parked.get(message_id))

    async def delete_stashed_final(self, chat_id: str, message_id: str) -> None:
        self.parked.pop(message_id, None)

    async def count_active(self) -> int | None:
        return None if self.is_away else len(self.leases)

    async def ping(self) -> None:
        await self._trip()

    async def _trip(self) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise StorageUnavailable


class MemoryAnswerLease:
    """A line whose log is always up to date: it shares the answer's own list of events."""

    def __init__(self, coordination: MemoryCoordination, answer: Answer, on_cancel: Callable[[], None]) -> None:
        self.coordination, self.answer, self.on_cancel = coordination, answer, on_cancel
        self.is_registered = False

    async def register(self, look_for_pending_cancel: bool) -> bool:
        who = self.answer.identity
        self.is_registered = True
        if self.coordination.is_away:
            return False
        self.coordination.leases.add(who.message_id)
        self.coordination.logs[who.message_id] = self.answer.events
        intent = (who.chat_id, who.user_message_id)
        return (who.chat_id, who.message_id) in self.coordination.cancels or (
            look_for_pending_cancel and intent in self.coordination.intents
        )

    async def release(self) -> None:
        self.coordination.leases.discard(self.answer.identity.message_id)

    async def discard(self) -> None:
        await self.release()
        self.coordination.logs.pop(self.answer.identity.message_id, None)
        self.coordination.discarded.append(self.answer.identity.message_id)

    async def stash_final(self, final: FinalAnswer) -> bool:
        if self.coordination.is_away:
            return False
        self.coordination.parked[self.answer.identity.message_id] = final
        return True

    async def close(self) -> None:
        self.coordination.lines.remove(self)
        self.coordination.leases.discard(self.answer.identity.message_id)


class NoRateLimiter:
    """Lets everything pass and counts the places taken."""

    def __init__(self) -> None:
        self.places: dict[AdmissionRequest, int] = {}
        self.spent: dict[AdmissionRequest, int] = {}
        self.streams: set[StreamRequest] = set()
        self.counted: list[str] = []
        """The messages of those that have been given back and count all the same."""

    async def acquire(self, attempt: AdmissionRequest, tokens: int) -> None:
        self.places[attempt] = tokens
        self.streams.add(StreamRequest(attempt.user_id, attempt.name))

    def reserve(self, attempt: AdmissionRequest, tokens: int) -> None:
        if attempt in self.places:
            self.places[attempt] = tokens

    async def release(self, attempt: AdmissionRequest, tokens: int, has_started: bool) -> None:
        if self.places.pop(attempt, None) is not None:
            self.spent[attempt] = tokens
            self.counted += [attempt.message] * has_started

    async def count_chat(self, user_id: str, name: str) -> None:
        pass

    async def count_pending_cancel(self, owner: str, name: str) -> None:
        pass

    async def open_stream(self, stream: StreamRequest) -> None:
        self.streams.add(stream)

    async def close_stream(self, stream: StreamRequest) -> None:
        self.streams.discard(stream)


class RecordingTelemetry:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[TelemetryEvent] = []

    def record(self, event: TelemetryEvent) -> None:
        if not isinstance(event, ActiveAnswersCounted):
            self.events.append(event)

    def kinds(self) -> list[str]:
        """Return only what happened: each event's class, or which fallback was taken."""
        return [e.fallback if isinstance(e, FallbackTaken) else type(e).__name__ for e in self.events]
