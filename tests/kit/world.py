"""All use cases on given stores, with a clock that a test sets; several processes may share the stores."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from chat.application.cancel_answer import CancelAnswer, CancelTarget
from chat.application.create_chat import CreateChat
from chat.application.deps import AnswerDeps, Budget
from chat.application.follow_answer import FollowAnswer, Following, FollowRequest
from chat.application.ports import AI, AnswerTelemetry, Chats, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.run_answer import AnswerRun
from chat.application.start_answer import SendMessage, StartAnswer
from chat.domain.answer import Answer
from chat.domain.events import Event
from chat.domain.model import StoredAnswer
from tests.kit.ai import ScriptedAI
from tests.kit.coordination import MemoryCoordination, NoRateLimiter, RecordingTelemetry


class Clock:
    """The real time, plus what a test adds."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Client:
    """What one client has received, and when it ended."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.has_ids: list[bool] = []
        self.changed = asyncio.Event()

    def __call__(self, events: Sequence[Event], with_ids: bool = True) -> None:
        self.events += events
        self.has_ids += [with_ids] * len(events)
        self.changed.set()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def text(self) -> str:
        """The answer as a client has it that begins afresh at every `start`."""
        text = ""
        for event in self.events:
            if event.name == "start":
                text = ""
            elif event.name == "":
                text += json.loads(event.data)["delta"]
        return text

    @property
    def last_number(self) -> int:
        """What its Last-Event-ID says: of the last event with an id, 0 after a `start` that begins afresh."""
        return [event.number for event, has_id in zip(self.events, self.has_ids, strict=True) if has_id][-1]

    @property
    def start(self) -> dict:
        return json.loads(next(event.data for event in self.events if event.name == "start"))

    @property
    def failure(self) -> dict:
        (failure,) = [json.loads(event.data) for event in self.events if event.name == "failure"]
        return failure

    @property
    def done(self) -> dict:
        assert self.names.count("done") == 1
        assert self.names[-1] == "done"
        return json.loads(self.events[-1].data)

    async def has(self, count: int) -> None:
        """Wait until at least so many events have come."""
        async with asyncio.timeout(20):
            while len(self.events) < count:
                self.changed.clear()
                await self.changed.wait()


class World:
    """One process of the service."""

    user = "user-1"

    def __init__(
        self,
        chats: Chats,
        coordination: MemoryCoordination | None = None,
        ai: AI | None = None,
        limits: RateLimiter | None = None,
        checkpoint_seconds: float = 5,
        store_seconds: float = 3,
        silence_seconds: float = 0.01,
        away_seconds: float = 0,
        wait_seconds: float = 2,
        telemetry: AnswerTelemetry | None = None,
    ) -> None:
        self.clock = Clock()
        self.chats = chats
        self.coordination = coordination or MemoryCoordination()
        self.ai = ai or ScriptedAI()
        self.limits = limits or NoRateLimiter()
        self.telemetry = telemetry or RecordingTelemetry()
        self.recover = OrphanRecovery(self.chats, self.coordination, self.coordination, self.telemetry, self.clock)
        self.create = CreateChat(self.chats, self.limits, self.telemetry, self.clock)
        budget = Budget(1000, 100, 5, checkpoint_seconds, store_seconds)
        deps = AnswerDeps(self.chats, self.coordination, self.ai, self.telemetry, budget, self.clock)
        self.follow = FollowAnswer(
            self.chats, self.coordination, self.recover, self.limits, self.telemetry, silence_seconds, away_seconds
        )
        self.cancel_answer = CancelAnswer(
            self.chats, self.coordination, self.recover, self.limits, self.telemetry, self.clock, wait_seconds
        )
        self.start = StartAnswer(deps, self.limits, self.recover, self.cancel_answer)

    async def new_chat(self) -> str:
        return (await self.create(self.user, None, None, None)).id

    async def send(
        self,
        chat_id: str,
        content: str | None = "hello",
        session: str = "phone",
        message: str | None = None,
        seconds=900.0,
        **more,
    ) -> AnswerRun | StoredAnswer:
        return await self.start(SendMessage(chat_id, self.user, session, content, message, seconds, **more))

    async def ask(self, chat_id: str, content: str | None = "hello", **more) -> Client:
        """Send a message and receive the whole answer, as the POST's client does."""
        client = Client()
        found = await self.send(chat_id, content, **more)
        stream = found if isinstance(found, AnswerRun) else await self.follow.from_stored(found, self.user, "phone")
        try:
            await stream.run(client)
        finally:
            await stream.close()
        return client

    async def begin(self, chat_id: str, content: str | None = "hello", **more) -> tuple[Client, asyncio.Task]:
        """Send a message and let the answer run beside the test."""
        client = Client()
        generation = await self.send(chat_id, content, **more)
        assert isinstance(generation, AnswerRun)
        task = asyncio.create_task(generation.run(client))
        await client.has(1)
        return client, task

    async def watch(
        self, chat_id: str, session: str = "tablet", wanted: FollowRequest | None = None
    ) -> Following | None:
        return await self.follow(chat_id, self.user, session, wanted or FollowRequest())

    async def cancel(self, chat_id: str, session: str = "phone", user: str | None = "", **target):
        return await self.cancel_answer(chat_id, self.user if user == "" else user, session, CancelTarget(**target))

    async def orphan(self, *in_log: str, in_row: str = "") -> StoredAnswer:
        """Leave what a killed owner leaves: a row with a checkpoint, a log, and no lease."""
        run = await self.send(await self.new_chat())
        assert isinstance(run, AnswerRun)
        answer = run.answer
        answer.begin()
        chat_id, message_id = answer.identity.chat_id, answer.identity.message_id
        row = await self.chats.find_answer(chat_id, message_id)
        assert row is not None
        partial = Answer(answer.identity)
        partial.begin()
        partial.append_text(in_row)
        await self.chats.checkpoint(partial, row.owner_token, self.clock())
        for text in in_log:
            answer.append_text(text)
        self.coordination.logs[message_id] = answer.events
        stored = await self.chats.find_answer(chat_id, message_id)
        assert stored is not None
        return stored

    async def stored(self, client: Client) -> StoredAnswer:
        found = await self.chats.find_answer(client.start["chatId"], client.start["messageId"])
        assert found is not None
        return found


async def kill(task: asyncio.Task, coordination: MemoryCoordination) -> None:
    """End a task as a killed process would: nothing it wanted to do at its end reaches a store."""
    coordination.is_away = True
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    coordination.is_away = False
