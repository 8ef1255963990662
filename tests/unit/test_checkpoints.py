"""Checkpoints of one answer, by themselves, on a clock that the test moves."""

import asyncio
from datetime import UTC, datetime

import pytest

from chat.application.checkpoints import CheckpointWriter
from chat.application.deps import AnswerDeps, Budget
from chat.domain.answer import Answer
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.model import AnswerIds
from tests.kit.ai import ScriptedAI
from tests.kit.coordination import MemoryCoordination, RecordingTelemetry
from tests.kit.virtual_time import run

SECONDS = 5.0


class Chats:
    """Answers each checkpoint as it is told."""

    def __init__(self, *replies: object) -> None:
        self.replies = list(replies)
        self.offered: list[str] = []
        self.written: list[str] = []
        self.max_characters: int | None = None

    async def checkpoint(self, answer, owner_token, seen_at, max_characters=None) -> bool:
        text = answer.text[:max_characters]
        self.offered.append(text)
        if self.max_characters is not None and len(text) > self.max_characters:
            raise StorageRefused
        reply = self.replies.pop(0) if self.replies else True
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, asyncio.Event):
            await reply.wait()
        self.written.append(text)
        return reply is not False


class Setting:
    def __init__(self, *replies: object) -> None:
        self.chats, self.telemetry = Chats(*replies), RecordingTelemetry()
        self.answer = Answer(AnswerIds("c", "m", "u", "s", "model"))
        self.answer.begin()
        self.lost: list[bool] = []
        budget = Budget(1000, 100, 5, checkpoint_seconds=SECONDS)
        self.deps = AnswerDeps(
            self.chats, MemoryCoordination(), ScriptedAI(), self.telemetry, budget, lambda: datetime.now(UTC)
        )

    async def start(self) -> asyncio.Task[None]:
        writer = CheckpointWriter(self.deps, self.answer, "token", lambda: self.lost.append(True))
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(0)  # its first interval begins now
        return task


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def test_each_interval_writes_the_text_there_is():
    async def scenario(loop):
        setting = Setting()
        task = await setting.start()
        for word in ("one ", "two "):
            setting.answer.append_text(word)
            await loop.advance(SECONDS)
        assert setting.chats.written == ["one ", "one two "]
        await end(task)

    run(scenario)


@pytest.mark.parametrize("error", [StorageUnavailable(), ValueError("data too long")])
def test_one_that_fails_is_not_the_last(error):
    async def scenario(loop):
        setting = Setting(error)
        task = await setting.start()
        await loop.advance(SECONDS)
        await loop.advance(SECONDS)
        assert len(setting.chats.written) == 1
        assert setting.telemetry.kinds() == (["checkpoint_missed"] if isinstance(error, StorageUnavailable) else [])
        await end(task)

    run(scenario)


def test_one_that_is_refused_is_written_with_what_fits_and_not_tried_again_in_that_size():
    async def scenario(loop):
        setting = Setting()
        setting.chats.max_characters = 30
        task = await setting.start()
        for _ in range(3):
            setting.answer.append_text("0123456789" * 5)
            await loop.advance(SECONDS)
        assert [len(text) for text in setting.chats.written] == [25, 25, 25]
        assert [len(text) for text in setting.chats.offered] == [50, 50, 25, 25, 25]
        assert setting.telemetry.kinds() == ["checkpoint_refused"]
        await end(task)

    run(scenario)


def test_one_that_is_refused_without_any_text_is_tried_again_as_a_sign_of_life():
    async def scenario(loop):
        setting = Setting()
        setting.chats.max_characters = -1
        setting.answer.append_text("word")
        task = await setting.start()
        await loop.advance(SECONDS)
        await loop.advance(SECONDS)
        assert setting.chats.offered == ["word", "word", "wo", "w", "", ""]
        assert setting.telemetry.kinds() == ["checkpoint_refused", "checkpoint_missed", "checkpoint_missed"]
        await end(task)

    run(scenario)


def test_an_answer_that_is_no_longer_ours_is_left_and_its_owner_told():
    async def scenario(loop):
        setting = Setting(False)
        task = await setting.start()
        await loop.advance(SECONDS)
        assert (setting.lost, task.done()) == ([True], True)

    run(scenario)


def test_who_gets_no_slot_writes_all_the_same_before_it_looks_dead():
    """Two checkpoints hang in MySQL; the third waits for a slot, but no longer than one interval."""

    async def scenario(loop):
        hanging = asyncio.Event()
        setting = Setting(hanging, hanging)
        tasks = [await setting.start() for _ in range(3)]
        await loop.advance(SECONDS)
        assert setting.chats.written == []
        await loop.advance(SECONDS)
        assert len(setting.chats.written) == 1
        hanging.set()
        await loop.advance(0)
        for task in tasks:
            await end(task)

    run(scenario)
