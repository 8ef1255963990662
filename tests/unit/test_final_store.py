"""Storing the end of an answer, by itself."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chat.application.deps import AnswerDeps, Budget
from chat.application.final_store import FinalStore, StoreResult
from chat.domain.answer import Answer
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.model import AnswerIds, FinalAnswer, NewAnswer, Outcome, Source, Status, Usage, new_id
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import MemoryCoordination, NoRateLimiter, RecordingTelemetry

NOW = datetime(2026, 11, 27, tzinfo=UTC)
FINAL = FinalAnswer(Outcome(Status.COMPLETED, "stop"), "text", "", [], Usage(1, 2), NOW)


class Store(MemoryChats):
    """Raises what it is told to, one error for each attempt, before or after it has stored."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.attempts = 0
        self.max_characters: int | None = None
        """A longer text is refused, and with it any reasoning and source."""

    async def finish(self, chat_id, message_id, token, final, if_seen_at=None) -> bool:
        self.attempts += 1
        if self.max_characters is not None and (
            len(final.text) > self.max_characters or final.reasoning or final.sources
        ):
            raise StorageRefused
        if self.before:
            raise self.before.pop(0)
        moved = await super().finish(chat_id, message_id, token, final, if_seen_at)
        if self.after:
            raise self.after.pop(0)
        return moved


class Setting:
    """A stored answer and what stores its end."""

    def __init__(self, chats: Store, identity: AnswerIds, store_seconds: float) -> None:
        self.chats, self.identity = chats, identity
        self.coordination, self.telemetry = MemoryCoordination(), RecordingTelemetry()
        lease = self.coordination.claim(Answer(identity), "token", "user", lambda: None)
        budget = Budget(1000, 100, 5, store_seconds=store_seconds)
        deps = AnswerDeps(chats, self.coordination, ScriptedAI(), self.telemetry, budget, lambda: NOW)
        self.final_store = FinalStore(deps, lease, identity, "token", asyncio.get_running_loop().time() + 900)

    async def stored(self):
        return await self.chats.find_answer(self.identity.chat_id, self.identity.message_id)


@pytest.fixture
async def setting():
    chats = Store()
    from chat.application.create_chat import CreateChat

    chat = await CreateChat(chats, NoRateLimiter(), RecordingTelemetry(), lambda: NOW)("user", None, None, None)
    identity = AnswerIds(chat.id, new_id(), new_id(), "phone", "model")
    await chats.open_answer(NewAnswer(identity, "user", "hello", "token", NOW, NOW), 1000)
    return Setting(chats, identity, store_seconds=0.3)


async def test_it_is_stored(setting):
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=True)
    assert (await setting.stored()).text == "text"


async def test_an_outage_is_tried_again(setting):
    setting.chats.before = [StorageUnavailable()]
    assert (await setting.final_store.store(FINAL)).is_saved
    assert setting.chats.attempts == 2
    assert not setting.telemetry.events


async def test_a_commit_whose_reply_was_lost_is_recognised(setting):
    setting.chats.after = [StorageUnavailable()]
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=True)


async def test_what_another_process_stored_is_returned(setting):
    other = FinalAnswer(Outcome(Status.INTERRUPTED, None, "interrupted"), "te", "", [], Usage(1, 1), NOW)
    await MemoryChats.finish(setting.chats, setting.identity.chat_id, setting.identity.message_id, "token", other)
    result = await setting.final_store.store(FINAL)
    assert (result.stored_by_other.status, result.stored_by_other.text) == (Status.INTERRUPTED, "te")


async def test_what_mysql_does_not_take_is_stashed_in_redis(setting):
    setting.chats.before = [StorageUnavailable() for _ in range(99)]
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=False)
    assert setting.coordination.parked == {setting.identity.message_id: FINAL}
    assert setting.telemetry.kinds() == ["final_parked"]


async def test_what_neither_takes_is_lost_and_said_so(setting):
    setting.chats.before = [StorageUnavailable() for _ in range(99)]
    setting.coordination.is_away = True
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=False)
    assert setting.telemetry.kinds() == ["final_lost"]


async def test_a_refused_end_is_stored_with_what_fits(setting):
    setting.chats.max_characters = 30
    final = replace(FINAL, text="가나다라마바사아자차" * 10, reasoning="why", sources=[Source("a", "https://a")])
    assert await setting.final_store.store(final) == StoreResult(is_saved=True, is_truncated=True)
    stored = await setting.stored()
    assert (stored.status, stored.finish_reason, stored.is_truncated) == (Status.COMPLETED, "stop", True)
    assert stored.text == final.text[:25]
    assert (stored.reasoning, stored.sources) == ("", ())
    assert setting.telemetry.kinds() == ["final_refused"]
    assert not setting.coordination.parked


async def test_an_end_whose_reasoning_or_sources_are_refused_keeps_its_text(setting):
    setting.chats.max_characters = 100
    final = replace(FINAL, sources=[Source("a", "https://a")])
    assert (await setting.final_store.store(final)).is_truncated
    assert (await setting.stored()).text == "text"


async def test_an_outage_between_two_refusals_is_tried_again_with_what_is_left(setting):
    setting.chats.before = [StorageRefused(), StorageUnavailable()]
    assert (await setting.final_store.store(FINAL)).is_truncated
    assert (await setting.stored()).text == "te"
    assert setting.chats.attempts == 3


async def test_a_commit_whose_reply_was_lost_is_recognised_when_it_was_cut(setting):
    setting.chats.before, setting.chats.after = [StorageRefused()], [StorageUnavailable()]
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=True, is_truncated=True)


async def test_an_end_of_which_nothing_is_taken_is_stashed_whole(setting):
    setting.chats.max_characters = -1
    assert await setting.final_store.store(FINAL) == StoreResult(is_saved=False)
    assert setting.coordination.parked == {setting.identity.message_id: FINAL}
    assert setting.telemetry.kinds() == ["final_refused", "final_parked"]
