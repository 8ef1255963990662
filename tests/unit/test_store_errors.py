"""Refused is not away, and reading does not depend on writing: every operation of MySQL fails in every way.

The clock skips the waits.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from chat.application.cancel_answer import Cancelled, NotActive
from chat.application.follow_answer import FollowRequest
from chat.application.ports import Finish, ReasoningDelta, SourcesAdded, TextDelta
from chat.application.run_answer import AnswerRun
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.events import Event
from chat.domain.model import Source, Started, Status, Usage
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import MemoryCoordination
from tests.kit.virtual_time import VirtualLoop
from tests.kit.world import Client, World

WRITES = ("open_answer", "checkpoint", "finish")
READS = ("require", "find_answer", "find_answer_to", "find_sent", "find_active")
ERRORS = (StorageUnavailable, StorageRefused, ValueError)
"""Away or read-only; refused for good; and a mistake of ours, such as a column that is not there."""
TEXT = "가나다 라마바"


class FailingChats(MemoryChats):
    """MySQL in which what a test names fails as it says."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, type[Exception]] = {}
        self.max_characters: int | None = None
        """A longer text is refused."""
        self.max_answer_bytes: int | None = None

    def __getattribute__(self, name: str):
        fails = object.__getattribute__(self, "__dict__").get("fails", {})
        if name not in fails:
            return object.__getattribute__(self, name)

        async def fail(*_: object, **__: object):
            raise fails[name]()

        return fail

    async def open_answer(self, opening, history_bytes):
        opened = await super().open_answer(opening, history_bytes)
        return replace(opened, max_answer_bytes=self.max_answer_bytes) if isinstance(opened, Started) else opened

    async def finish(self, chat_id, message_id, owner_token, final, if_seen_at=None):
        self._fit(final.text)
        return await super().finish(chat_id, message_id, owner_token, final, if_seen_at)

    async def checkpoint(self, answer, owner_token, seen_at, max_characters=None):
        self._fit(answer.text[:max_characters])
        return await super().checkpoint(answer, owner_token, seen_at, max_characters)

    def _fit(self, text: str) -> None:
        if self.max_characters is not None and len(text) > self.max_characters:
            raise StorageRefused("1406")


class Story:
    """An answer that is told in two parts, and what its readers are told."""

    def __init__(self) -> None:
        self.chats = FailingChats()
        self.hold = asyncio.Event()
        first, second = TEXT.split()
        script = (ReasoningDelta("why"), first + " ", self.hold, second, Finish("stop"), Usage(1, 2))
        self.world = World(self.chats, ai=ScriptedAI(*script))
        self.chat_id = ""
        self.client = Client()

    async def tell(self, **fails: type[Exception]) -> Client:
        """Let everything named fail from the middle of the answer on, past two checkpoints and the end."""
        self.chat_id = await self.world.new_chat()
        self.client, task = await self.world.begin(self.chat_id)
        await self.client.has(3)
        self.chats.fails = dict(fails)
        await asyncio.sleep(12)
        self.hold.set()
        await task
        return self.client

    @property
    def message_id(self) -> str:
        return self.client.start["messageId"]

    async def read(self) -> Client:
        """Read the whole answer, as another device does by its name."""
        following = await self.world.watch(self.chat_id, wanted=FollowRequest(message_id=self.message_id))
        reader = Client()
        async with asyncio.timeout(60):
            await following.run(reader)
        await following.close()
        return reader

    async def is_free(self) -> bool:
        """Tell whether the session may send its next message."""
        run = await self.world.send(self.chat_id, "next", session="phone")
        return isinstance(run, AnswerRun)


def play(scenario: Callable[[], object]) -> None:
    loop = VirtualLoop()
    try:
        loop.run(scenario())
        assert not loop.errors
    finally:
        loop.close()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("write", WRITES)
def test_whatever_write_fails_the_answer_is_told_read_and_its_session_free(write, error):
    async def scenario():
        story = Story()
        client = await story.tell(**{write: error})
        assert (client.text, client.done["status"]) == (TEXT, "completed")
        reader = await story.read()
        assert (reader.text, reader.done["status"]) == (TEXT, "completed")
        assert reader.done.get("saved") == client.done.get("saved") == (False if write == "finish" else None)
        assert isinstance(await story.world.cancel(story.chat_id, message_id=story.message_id), NotActive)
        story.chats.fails = {}
        assert await story.is_free()
        stored = await story.world.stored(client)
        assert (stored.status, stored.finish_reason, stored.text) == (Status.COMPLETED, "stop", TEXT)

    play(scenario)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("write", WRITES)
def test_whatever_write_fails_a_cancelled_answer_is_cancelled(write, error):
    async def scenario():
        story = Story()
        story.chat_id = await story.world.new_chat()
        story.client, task = await story.world.begin(story.chat_id)
        await story.client.has(3)
        story.chats.fails = {write: error}
        await story.world.cancel(story.chat_id, message_id=story.message_id)
        await task
        again = await story.world.cancel(story.chat_id, message_id=story.message_id)
        assert isinstance(again, Cancelled)
        assert (again.answer.text, again.answer.status) == (story.client.text, Status.CANCELLED)
        story.chats.fails = {}
        assert await story.is_free()
        assert (await story.world.stored(story.client)).status is Status.CANCELLED

    play(scenario)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("read", "write"), list(itertools.product(READS, ("", "finish"))))
def test_whatever_read_fails_the_answer_is_told_whole_and_read_when_it_is_back(read, write, error):
    async def scenario():
        story = Story()
        client = await story.tell(**{name: error for name in (read, write) if name})
        assert (client.text, client.done["status"]) == (TEXT, "completed")
        story.chats.fails = {}
        reader = await story.read()
        assert (reader.text, reader.done["status"]) == (TEXT, "completed")
        assert "saved" not in reader.done
        assert await story.is_free()

    play(scenario)


@pytest.mark.parametrize("max_characters", [len(TEXT) - 1, 2, 0])
def test_what_is_refused_for_its_size_is_stored_with_what_fits(max_characters):
    async def scenario():
        story = Story()
        story.chats.max_characters = max_characters
        client = await story.tell()
        assert client.text == TEXT
        assert (client.done["truncated"], "saved" in client.done) == (True, False)
        stored = await story.world.stored(client)
        assert (stored.status, stored.finish_reason, stored.is_truncated) == (Status.COMPLETED, "stop", True)
        assert TEXT.startswith(stored.text)
        assert max_characters // 2 <= len(stored.text) <= max_characters
        story.world.coordination.logs.clear()
        reader = await story.read()
        assert (reader.text, reader.done["truncated"]) == (stored.text, True)
        assert await story.is_free()
        assert story.world.telemetry.kinds().count("final_refused") == 1
        assert not story.world.coordination.parked

    play(scenario)


def test_an_answer_ends_as_too_long_before_its_store_would_refuse_it():
    async def scenario():
        story = Story()
        story.chats.max_answer_bytes = len(f"why{TEXT}".encode()) - 1
        story.world.ai.script.insert(-2, [TextDelta("never"), TextDelta("said")])
        client = await story.tell()
        assert client.text == TEXT[:-1]
        assert (client.done["status"], client.done["finishReason"]) == ("completed", "length")
        assert client.done["characters"] == len(TEXT) - 1
        assert "truncated" not in client.done
        assert (await story.world.stored(client)).text == client.text
        assert story.world.ai.left == 1

    play(scenario)


def test_who_has_more_of_a_truncated_answer_than_is_stored_is_told_only_its_end():
    async def scenario():
        story = Story()
        story.chats.max_characters = 2
        client = await story.tell()
        log: list[Event] = story.world.coordination.logs[story.message_id]
        story.world.coordination.logs[story.message_id] = log[:-1]
        wanted = FollowRequest(message_id=story.message_id, after=len(log) - 1)
        reader = Client()
        following = await story.world.watch(story.chat_id, wanted=wanted)
        await following.run(reader)
        assert reader.names == ["done"]
        assert reader.done["truncated"] is client.done["truncated"] is True

    play(scenario)


def test_a_stashed_end_that_is_too_long_when_mysql_is_back_is_stored_with_what_fits():
    async def scenario():
        story = Story()
        client = await story.tell(finish=StorageUnavailable)
        story.chats.fails, story.chats.max_characters = {}, 3
        assert await story.is_free()
        stored = await story.world.stored(client)
        assert (stored.status, stored.text, stored.is_truncated) == (Status.COMPLETED, TEXT[:3], True)
        assert "final_refused" in story.world.telemetry.kinds()

    play(scenario)


def test_readers_of_a_stashed_end_get_all_of_it():
    async def scenario():
        story = Story()
        story.world.ai.script.insert(1, SourcesAdded([Source("a", "https://a")]))
        client = await story.tell(finish=StorageUnavailable)
        story.world.coordination.logs.clear()
        reader = await story.read()
        assert reader.names == ["start", "reasoning", "", "sources", "done"]
        assert {**reader.done, "characters": 0} == {**client.done, "characters": 0}

    play(scenario)


def test_with_redis_away_too_the_end_is_read_when_redis_is_back():
    async def scenario():
        story = Story()
        client = await story.tell(finish=StorageUnavailable)
        coordination: MemoryCoordination = story.world.coordination
        coordination.is_away = True
        watching = asyncio.create_task(story.read())
        await asyncio.sleep(5)
        assert not watching.done()  # nobody knows how it ended; nothing false is said
        coordination.is_away = False
        reader = await watching
        assert (reader.text, reader.done["saved"]) == (client.text, False)

    play(scenario)


@pytest.mark.parametrize("error", [StorageUnavailable, StorageRefused])
def test_a_dead_owner_whose_end_cannot_be_written_does_not_keep_readers_from_what_it_said(error):
    async def scenario():
        world = World(FailingChats())
        stored = await world.orphan("its last words")
        world.clock.ahead += timedelta(minutes=30)
        world.chats.fails = {"finish": error}
        following = await world.watch(stored.identity.chat_id)
        reader = Client()
        watching = asyncio.create_task(following.run(reader))
        await reader.has(2)
        assert reader.text == "its last words"
        world.chats.fails = {}
        async with asyncio.timeout(60):
            await watching
        assert reader.done["status"] == "interrupted"

    play(scenario)
