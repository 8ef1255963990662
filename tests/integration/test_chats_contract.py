"""What every `Chats` does: the fake in memory, SQLite, and MySQL where there is one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.application.ports import Chats
from chat.domain.answer import Answer
from chat.domain.errors import ChatNotFound, FailureCode, IdempotencyConflict, MessageNotFound
from chat.domain.model import (
    ROOT,
    AlreadyAnswered,
    AnswerIds,
    Chat,
    FinalAnswer,
    NewAnswer,
    Outcome,
    QuestionAnswer,
    SessionBusy,
    Source,
    Started,
    Status,
    Usage,
    new_id,
)
from chat.settings import Secret
from tests.kit.chats import MemoryChats
from tests.kit.databases import EVERY_DATABASE

NOW = datetime(2030, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
ENOUGH = 48_000
HOSTILE = {
    "nothing special": "Hello, world",
    "emoji": "👩‍👩‍👧‍👦 \U0001f1f0\U0001f1f7 😀",
    "nul": "a\x00b\x00",
    "only a nul": "\x00",
    "separators": "a\u2028b\u2029c\x85d\r\ne\rf",
    "replacement": "\ufffd\ufeff\uffff",
    "spaces around": "  \t text \n\n ",
    "only spaces": "   ",
    "quoting": "'; DROP TABLE chats; -- \\' \" ` %s %(x)s :b_chat \\0 \\",
    "combining": "e\u0301 is not é",
    "long Hangul": "가힣" * 10_000,
    "long emoji": "😀" * 50_000,
}


@asynccontextmanager
async def sql_chats(url: str, concurrency: int = 8) -> AsyncIterator[SqlChatRepository]:
    chats = SqlChatRepository(open_engine(Secret(url), concurrency))
    try:
        yield chats
    finally:
        await chats.close()


@pytest.fixture(params=["memory", *EVERY_DATABASE])
async def chats(request: pytest.FixtureRequest) -> AsyncIterator[Chats]:
    if request.param == "memory":
        yield MemoryChats()
        return
    async with sql_chats(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "mysql_url")) as found:
        yield found


async def new_chat(chats: Chats, user: str = "user", system_prompt: str | None = None) -> str:
    chat = Chat(new_id(), user, None, system_prompt, NOW)
    return (await chats.create(chat, None, None)).id


def opening(chat_id: str, content: str = "question", message: str | None = None, session: str = "phone") -> NewAnswer:
    identity = AnswerIds(chat_id, new_id(), message or new_id(), session, "model-1")
    return NewAnswer(identity, "user", content, f"token-{new_id()}", NOW, NOW + timedelta(minutes=15))


def final(text: str = "answer", status: Status = Status.COMPLETED, **more) -> FinalAnswer:
    ending = Outcome(status, "stop" if status is Status.COMPLETED else None, None)
    return replace(FinalAnswer(ending, text, "", (), Usage(1, 2), NOW + timedelta(seconds=9)), **more)


async def finish(chats: Chats, opened: NewAnswer, record: FinalAnswer | None = None) -> bool:
    who = opened.identity
    return await chats.finish(who.chat_id, who.message_id, opened.owner_token, record or final())


async def exchange(
    chats: Chats, chat_id: str, question: str, record: FinalAnswer, message: str | None = None, user: str = "user"
) -> NewAnswer:
    sent = replace(opening(chat_id, question, message), user_id=user)
    assert isinstance(await chats.open_answer(sent, ENOUGH), Started)
    assert await finish(chats, sent, record)
    return sent


async def history(chats: Chats, chat_id: str, enough: int = ENOUGH) -> list[QuestionAnswer]:
    opened = await chats.open_answer(opening(chat_id, "next"), enough)
    assert isinstance(opened, Started)
    return list(opened.history)


def told(opened: NewAnswer, text: str = "", reasoning: str = "") -> Answer:
    answer = Answer(opened.identity)
    answer.begin()
    if text:
        answer.append_text(text)
    if reasoning:
        answer.append_reasoning(reasoning)
    return answer


class TestCreate:
    async def test_the_chat_comes_back_as_it_was_given(self, chats):
        chat = Chat(new_id(), "user", "A title", "Be brief. 😀", NOW)
        assert await chats.create(chat, None, None) == chat

    async def test_the_same_key_gives_the_same_chat(self, chats):
        user, key = new_id(), "~key 1!"
        first = await chats.create(Chat(new_id(), user, "제목", "prompt\x00", NOW), key, "digest")
        again = await chats.create(Chat(new_id(), user, "제목", "prompt\x00", NOW + timedelta(hours=1)), key, "digest")
        assert again == first
        with pytest.raises(ChatNotFound):
            await chats.require(new_id(), user)

    async def test_the_same_key_with_other_content_is_a_conflict(self, chats):
        user = new_id()
        await chats.create(Chat(new_id(), user, None, None, NOW), "key", "digest")
        with pytest.raises(IdempotencyConflict):
            await chats.create(Chat(new_id(), user, None, None, NOW), "key", "other")

    @pytest.mark.parametrize(("user_2", "key_2"), [("other", "key"), ("user", "KEY"), ("USER", "key")])
    async def test_keys_are_told_apart_by_user_and_case(self, chats, user_2, key_2):
        suffix = new_id()
        first = await chats.create(Chat(new_id(), f"user{suffix}", None, None, NOW), "key", "digest")
        second = await chats.create(Chat(new_id(), f"{user_2}{suffix}", None, None, NOW), key_2, "digest")
        assert first.id != second.id

    async def test_without_a_key_every_request_makes_a_chat(self, chats):
        assert await new_chat(chats) != await new_chat(chats)

    async def test_sent_ten_times_at_once_it_is_one_chat(self, chats):
        user = new_id()
        made = await asyncio.gather(
            *(chats.create(Chat(new_id(), user, None, None, NOW), "key", "digest") for _ in range(10))
        )
        assert len({chat.id for chat in made}) == 1
        await chats.require(made[0].id, user)


class TestRequire:
    async def test_the_owner_passes(self, chats):
        assert await chats.require(await new_chat(chats), "user") is None

    @pytest.mark.parametrize("user", ["other", "User", "user."])
    async def test_nobody_else_does(self, chats, user):
        chat_id = await new_chat(chats)
        with pytest.raises(ChatNotFound):
            await chats.require(chat_id, user)

    async def test_an_unknown_chat_looks_the_same(self, chats):
        with pytest.raises(ChatNotFound):
            await chats.require(new_id(), "user")


class TestOpen:
    async def test_the_first_message_opens_an_answer(self, chats):
        sent = opening(await new_chat(chats, system_prompt="Be brief. 가"))
        assert await chats.open_answer(sent, ENOUGH) == Started("Be brief. 가", [], is_first=True)
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert stored.identity == sent.identity
        assert (stored.status, stored.text, stored.reasoning, list(stored.sources)) == (Status.STREAMING, "", "", [])
        assert (stored.finish_reason, stored.error_code, stored.usage, stored.finished_at) == (None, None, None, None)
        assert stored.owner_token == sent.owner_token
        assert (stored.owner_seen_at, stored.created_at, stored.deadline_at) == (NOW, NOW, sent.deadline_at)

    @pytest.mark.parametrize("user", ["other", "User"])
    async def test_someone_elses_chat_is_not_found_and_stays_as_it_is(self, chats, user):
        chat_id = await new_chat(chats)
        with pytest.raises(ChatNotFound):
            await chats.open_answer(replace(opening(chat_id), user_id=user), ENOUGH)
        assert await chats.find_active(chat_id, None) is None
        assert await history(chats, chat_id) == []

    async def test_an_unknown_chat_is_not_found(self, chats):
        with pytest.raises(ChatNotFound):
            await chats.open_answer(opening(new_id()), ENOUGH)

    async def test_a_session_with_an_active_answer_is_busy(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        found = await chats.open_answer(opening(sent.identity.chat_id), ENOUGH)
        assert isinstance(found, SessionBusy)
        assert found.answer.identity == sent.identity

    async def test_a_refused_send_leaves_nothing_behind(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        refused = opening(sent.identity.chat_id)
        assert isinstance(await chats.open_answer(refused, ENOUGH), SessionBusy)
        assert await chats.find_answer(sent.identity.chat_id, refused.identity.message_id) is None
        await finish(chats, sent)
        opened = await chats.open_answer(refused, ENOUGH)
        assert isinstance(opened, Started)
        assert opened.is_first

    async def test_once_the_answer_has_ended_the_session_is_free(self, chats):
        chat_id = await new_chat(chats)
        for status in Status:
            if status is not Status.STREAMING:
                await exchange(chats, chat_id, "question", final(status=status))
        assert await chats.find_active(chat_id, None) is None

    @pytest.mark.parametrize("other", ["laptop", "PHONE", "phone."])
    async def test_sessions_do_not_stand_in_each_others_way(self, chats, other):
        chat_id = await new_chat(chats)
        phone, laptop = opening(chat_id), opening(chat_id, session=other)
        assert isinstance(await chats.open_answer(phone, ENOUGH), Started)
        assert isinstance(await chats.open_answer(laptop, ENOUGH), Started)

    async def test_the_same_session_may_stream_in_another_chat(self, chats):
        for chat_id in (await new_chat(chats), await new_chat(chats)):
            assert isinstance(await chats.open_answer(opening(chat_id), ENOUGH), Started)

    async def test_of_two_sends_at_once_in_one_session_one_is_busy(self, chats):
        chat_id = await new_chat(chats)
        found = await asyncio.gather(*(chats.open_answer(opening(chat_id), ENOUGH) for _ in range(2)))
        assert sorted(type(outcome).__name__ for outcome in found) == ["SessionBusy", "Started"]


class TestRepeat:
    @pytest.mark.parametrize("session", ["phone", "laptop"])
    async def test_the_same_message_follows_the_running_answer(self, chats, session):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        again = opening(sent.identity.chat_id, sent.content, sent.identity.user_message_id, session)
        found = await chats.open_answer(again, ENOUGH)
        assert isinstance(found, AlreadyAnswered)
        assert found.answer.identity == sent.identity
        assert found.answer.is_active

    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED])
    async def test_the_same_message_gets_the_stored_answer(self, chats, status):
        record = final("the text", status, reasoning="thoughts", sources=[Source("t", "u")])
        sent = await exchange(chats, await new_chat(chats), "question", record)
        again = opening(sent.identity.chat_id, "question", sent.identity.user_message_id)
        found = await chats.open_answer(again, ENOUGH)
        assert isinstance(found, AlreadyAnswered)
        stored = found.answer
        assert (stored.identity, stored.status) == (sent.identity, status)
        assert (stored.text, stored.reasoning, list(stored.sources)) == ("the text", "thoughts", [Source("t", "u")])

    async def test_a_repeated_message_is_not_busy_though_another_answer_runs(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final())
        await chats.open_answer(opening(sent.identity.chat_id, "other"), ENOUGH)
        again = opening(sent.identity.chat_id, "question", sent.identity.user_message_id)
        assert isinstance(await chats.open_answer(again, ENOUGH), AlreadyAnswered)

    @pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT, Status.INTERRUPTED])
    async def test_after_a_failure_it_is_a_retry(self, chats, status):
        sent = await exchange(chats, await new_chat(chats, system_prompt="p"), "question", final("", status))
        chat_id, message_id = sent.identity.chat_id, sent.identity.user_message_id
        again = opening(chat_id, "question", message_id)
        assert await chats.open_answer(again, ENOUGH) == Started("p", [], is_first=False)
        newest = await chats.find_answer_to(chat_id, message_id)
        assert newest is not None
        assert newest.identity == again.identity
        first = await chats.find_answer(chat_id, sent.identity.message_id)
        assert first is not None
        assert first.status is status

    async def test_a_retry_waits_for_the_sessions_other_answer(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("", Status.FAILED))
        other = opening(sent.identity.chat_id, "other")
        await chats.open_answer(other, ENOUGH)
        again = opening(sent.identity.chat_id, "question", sent.identity.user_message_id)
        found = await chats.open_answer(again, ENOUGH)
        assert isinstance(found, SessionBusy)
        assert found.answer.identity == other.identity

    async def test_the_newest_answer_decides(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("", Status.FAILED))
        chat_id, message_id = sent.identity.chat_id, sent.identity.user_message_id
        await exchange(chats, chat_id, "question", final("", Status.TIMEOUT), message_id)
        last = await exchange(chats, chat_id, "question", final("at last"), message_id)
        found = await chats.open_answer(opening(chat_id, "question", message_id), ENOUGH)
        assert isinstance(found, AlreadyAnswered)
        assert found.answer.identity == last.identity

    @pytest.mark.parametrize("other", ["question ", "Question", "questiön", "question\x00", ""])
    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
    async def test_other_content_under_the_same_id_is_a_conflict(self, chats, other, status):
        sent = await exchange(chats, await new_chat(chats), "question", final(status=status))
        chat_id, message_id = sent.identity.chat_id, sent.identity.user_message_id
        with pytest.raises(IdempotencyConflict):
            await chats.open_answer(opening(chat_id, other, message_id), ENOUGH)
        assert await chats.find_active(chat_id, None) is None

    async def test_an_answers_id_cannot_be_a_messages(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("answer"))
        with pytest.raises(IdempotencyConflict):
            await chats.open_answer(opening(sent.identity.chat_id, "answer", sent.identity.message_id), ENOUGH)

    async def test_the_same_id_in_another_chat_is_another_message(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final())
        other = opening(await new_chat(chats), "something else", sent.identity.user_message_id)
        assert await chats.open_answer(other, ENOUGH) == Started(None, [], is_first=True)

    async def test_sent_twenty_times_at_once_it_is_one_answer(self, chats):
        chat_id, message_id = await new_chat(chats), new_id()
        found = await asyncio.gather(
            *(chats.open_answer(opening(chat_id, "question", message_id, f"s{n % 3}"), ENOUGH) for n in range(20))
        )
        assert sum(isinstance(outcome, Started) for outcome in found) == 1
        repeated = [outcome.answer.identity for outcome in found if isinstance(outcome, AlreadyAnswered)]
        assert len(repeated) == 19
        assert len(set(repeated)) == 1

    async def test_retried_ten_times_at_once_it_is_one_new_answer(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("", Status.FAILED))
        chat_id, message_id = sent.identity.chat_id, sent.identity.user_message_id
        found = await asyncio.gather(
            *(chats.open_answer(opening(chat_id, "question", message_id), ENOUGH) for _ in range(10))
        )
        assert [outcome.is_first for outcome in found if isinstance(outcome, Started)] == [False]
        assert sum(isinstance(outcome, AlreadyAnswered) for outcome in found) == 9


class TestHistory:
    async def test_it_is_in_order_oldest_first(self, chats):
        chat_id = await new_chat(chats)
        for n in range(4):
            await exchange(chats, chat_id, f"q{n}", final(f"a{n}"))
        assert await history(chats, chat_id) == [QuestionAnswer(f"q{n}", f"a{n}") for n in range(4)]

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STREAMING])
    async def test_every_ended_answer_counts_with_the_text_it_has(self, chats, status):
        chat_id = await new_chat(chats)
        await exchange(chats, chat_id, "question", final("partial", status))
        assert await history(chats, chat_id) == [QuestionAnswer("question", "partial")]

    async def test_what_was_asked_stays_asked_unless_it_is_being_answered_or_was_refused(self, chats):
        chat_id = await new_chat(chats)
        await exchange(chats, chat_id, "no text", final("", Status.CANCELLED))
        refused = Outcome(Status.FAILED, None, FailureCode.AI_REJECTED)
        await exchange(chats, chat_id, "refused", final("", outcome=refused))
        running = opening(chat_id, "still running", session="laptop")
        await chats.open_answer(running, ENOUGH)
        await chats.checkpoint(told(running, "partial"), running.owner_token, NOW)
        await exchange(chats, chat_id, "only a nul", final("\x00"))
        assert await history(chats, chat_id) == [QuestionAnswer("no text", ""), QuestionAnswer("only a nul", "\x00")]

    async def test_of_several_answers_the_newest_with_text_counts(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("cut", Status.FAILED))
        await exchange(chats, chat_id, "q2", final("a2"))
        message_id = first.identity.user_message_id
        await exchange(chats, chat_id, "q1", final("better", Status.TIMEOUT), message_id)
        await exchange(chats, chat_id, "q1", final("", Status.FAILED), message_id)
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "better"), QuestionAnswer("q2", "a2")]

    async def test_a_retry_sees_only_what_came_before_its_message(self, chats):
        chat_id = await new_chat(chats)
        early = await exchange(chats, chat_id, "early", final("cut", Status.FAILED))
        retried = await exchange(chats, chat_id, "retried", final("", Status.FAILED))
        await exchange(chats, chat_id, "late", final("answer"))
        await exchange(chats, chat_id, "early", final("whole"), early.identity.user_message_id)
        opened = await chats.open_answer(opening(chat_id, "retried", retried.identity.user_message_id), ENOUGH)
        assert opened == Started(None, [QuestionAnswer("early", "whole")], is_first=False)

    @pytest.mark.parametrize(("enough", "pairs"), [(300, 3), (301, 4), (1, 1), (10_000, 10)])
    async def test_it_ends_where_it_comes_to_enough(self, chats, enough, pairs):
        chat_id = await new_chat(chats)
        for n in range(10):
            await exchange(chats, chat_id, f"{n}가", final("나" * 32))  # 1 + 33 * 3 = 100 bytes
        sent = opening(chat_id, "next")
        opened = await chats.open_answer(sent, enough)
        assert isinstance(opened, Started)
        assert [pair.question for pair in opened.history] == [f"{n}가" for n in range(10 - pairs, 10)]

    async def test_a_long_chat_is_read_back_to_where_it_is_enough(self, chats):
        chat_id = await new_chat(chats)
        for n in range(90):
            await exchange(chats, chat_id, f"q{n}", final(f"a{n}"))
        assert await history(chats, chat_id) == [QuestionAnswer(f"q{n}", f"a{n}") for n in range(90)]

    async def test_two_chats_never_mix(self, chats):
        one, two = await new_chat(chats), await new_chat(chats)
        for n in range(3):
            await asyncio.gather(
                exchange(chats, one, f"one {n}", final("1")), exchange(chats, two, f"two {n}", final("2"))
            )
        assert await history(chats, one) == [QuestionAnswer(f"one {n}", "1") for n in range(3)]
        assert await history(chats, two) == [QuestionAnswer(f"two {n}", "2") for n in range(3)]


class TestTitle:
    @staticmethod
    async def title(chats: Chats, given: str | None, *contents: str) -> str | None:
        user = new_id()
        chat = await chats.create(Chat(new_id(), user, given, None, NOW), "key", "digest")
        for content in contents:
            sent = replace(opening(chat.id, content), user_id=user)
            assert isinstance(await chats.open_answer(sent, ENOUGH), Started)
            await finish(chats, sent)
        return (await chats.create(Chat(new_id(), user, given, None, NOW), "key", "digest")).title

    async def test_the_first_message_gives_it(self, chats):
        assert await self.title(chats, None, "  What is\t Lambda?\nTell me.", "And then?") == "What is Lambda?"

    async def test_a_long_one_fits(self, chats):
        assert await self.title(chats, None, "😀" * 500) == "😀" * 59 + "…"

    async def test_a_given_one_stays(self, chats):
        assert await self.title(chats, "Mine", "What is Lambda?") == "Mine"

    async def test_a_first_message_that_says_nothing_leaves_it_to_the_next(self, chats):
        assert await self.title(chats, None, "\x00", "Hello") == "Hello"


class TestFind:
    async def test_what_is_not_there_is_none(self, chats):
        chat_id = await new_chat(chats)
        for unknown in (chat_id, new_id()):
            assert await chats.find_answer(unknown, new_id()) is None
            assert await chats.find_answer_to(unknown, new_id()) is None
            assert await chats.find_active(unknown, "phone") is None
            assert await chats.find_active(unknown, None) is None

    async def test_a_users_message_is_no_answer(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        assert await chats.find_answer(sent.identity.chat_id, sent.identity.user_message_id) is None

    async def test_an_answer_is_found_only_in_its_chat(self, chats):
        sent, other = opening(await new_chat(chats)), await new_chat(chats)
        await chats.open_answer(sent, ENOUGH)
        assert await chats.find_answer(other, sent.identity.message_id) is None
        assert await chats.find_answer_to(other, sent.identity.user_message_id) is None

    async def test_a_message_that_came_before_is_found_by_its_content(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("", Status.FAILED))
        who = sent.identity
        last = await exchange(chats, who.chat_id, "question", final("yes"), who.user_message_id)
        found = await chats.find_sent(who.chat_id, sent.user_id, who.user_message_id, "question")
        assert found is not None
        assert (found.identity, found.text) == (last.identity, "yes")
        assert await chats.find_sent(who.chat_id, sent.user_id, new_id(), "question") is None
        for message_id, content in ((who.user_message_id, "Question"), (who.message_id, ""), (who.message_id, "yes")):
            with pytest.raises(IdempotencyConflict):
                await chats.find_sent(who.chat_id, sent.user_id, message_id, content)
        for chat_id, user_id in ((who.chat_id, "somebody else"), (new_id(), sent.user_id)):
            with pytest.raises(ChatNotFound):
                await chats.find_sent(chat_id, user_id, who.user_message_id, "question")

    async def test_the_newest_answer_to_a_message_is_found(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("", Status.FAILED))
        chat_id, message_id = sent.identity.chat_id, sent.identity.user_message_id
        last = await exchange(chats, chat_id, "question", final("yes"), message_id)
        found = await chats.find_answer_to(chat_id, message_id)
        assert found is not None
        assert (found.identity, found.text) == (last.identity, "yes")

    async def test_the_active_answer_of_a_session_or_the_newest_of_the_chat(self, chats):
        chat_id = await new_chat(chats)
        phone, laptop = opening(chat_id), opening(chat_id, session="laptop")
        await chats.open_answer(phone, ENOUGH)
        await chats.open_answer(laptop, ENOUGH)

        async def active(session: str | None) -> AnswerIds | None:
            found = await chats.find_active(chat_id, session)
            return found and found.identity

        assert await active("phone") == phone.identity
        assert await active("laptop") == laptop.identity
        assert await active("PHONE") is None
        assert await active(None) == laptop.identity
        await finish(chats, laptop)
        assert await active("laptop") is None
        assert await active(None) == phone.identity


class TestCheckpoint:
    async def test_it_writes_the_partial_text_and_the_sign_of_life(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        later = NOW + timedelta(microseconds=1)
        assert await chats.checkpoint(told(sent, "par😀", "thinking"), sent.owner_token, later)
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.status, stored.text, stored.reasoning) == (Status.STREAMING, "par😀", "thinking")
        assert stored.owner_seen_at == later

    async def test_one_that_changes_nothing_is_still_the_owners(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        for _ in range(2):
            assert await chats.checkpoint(told(sent, "same"), sent.owner_token, NOW)

    async def test_nobody_else_can(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        assert not await chats.checkpoint(told(sent, "theirs"), sent.owner_token.upper(), NOW)
        assert not await chats.checkpoint(told(opening(sent.identity.chat_id)), sent.owner_token, NOW)
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert stored.text == ""

    async def test_after_the_end_it_changes_nothing(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("whole"))
        assert not await chats.checkpoint(told(sent, "who"), sent.owner_token, NOW + timedelta(1))
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.text, stored.owner_seen_at) == ("whole", NOW)


class TestFinish:
    async def test_it_writes_everything(self, chats):
        record = FinalAnswer(
            Outcome(Status.FAILED, "length", "ai_incomplete"),
            "text",
            "reasoning",
            [Source("둘", "https://example.com/2"), Source("하나 😀", "https://example.com/1")],
            Usage(123, 456, estimated=True),
            NOW + timedelta(seconds=1, microseconds=1),
        )
        sent = await exchange(chats, await new_chat(chats), "question", record)
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert Outcome(stored.status, stored.finish_reason, stored.error_code) == record.outcome
        assert (stored.text, stored.reasoning, list(stored.sources)) == ("text", "reasoning", record.sources)
        assert (stored.usage, stored.finished_at) == (record.usage, record.finished_at)
        assert (stored.identity, stored.owner_token, stored.owner_seen_at) == (sent.identity, sent.owner_token, NOW)

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
    async def test_every_text_comes_back_as_it_was(self, chats, text):
        record = final(text, reasoning=text, sources=[Source(text[:100], "u" + text[:100])])
        sent = await exchange(chats, await new_chat(chats), text, record)
        chat_id = sent.identity.chat_id
        stored = await chats.find_answer(chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.text, stored.reasoning, list(stored.sources)) == (text, text, record.sources)
        assert await history(chats, chat_id, 10**9) == [QuestionAnswer(text, text)]
        again = await chats.open_answer(opening(chat_id, text, sent.identity.user_message_id), ENOUGH)
        assert isinstance(again, AlreadyAnswered)

    async def test_a_lone_surrogate_or_a_huge_value_of_the_ai_never_keeps_an_end_from_being_stored(self, chats):
        record = replace(
            final(sources=[Source("t" * 100_000, "https://example.com/?" + "u" * 100_000), Source("\ud800", "\udfff")]),
            outcome=Outcome(Status.COMPLETED, "because " * 100 + "😀", None),
            usage=Usage(10**30, 10**30),
        )
        sent = await exchange(chats, await new_chat(chats), "question", record)
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.status, stored.text, len(stored.sources)) == (Status.COMPLETED, "answer", 2)
        assert stored.finish_reason is not None
        assert stored.finish_reason.startswith("because because")

    async def test_it_happens_once(self, chats):
        sent = await exchange(chats, await new_chat(chats), "question", final("first"))
        assert not await finish(chats, sent, final("second", Status.CANCELLED, sources=[Source("t", "u")]))
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.status, stored.text, list(stored.sources)) == (Status.COMPLETED, "first", [])

    async def test_of_many_at_once_one_wins_and_what_it_wrote_stands(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        records = [final(f"text {n}", sources=[Source(f"title {n}", f"url {n}")]) for n in range(8)]
        moved = await asyncio.gather(*(finish(chats, sent, record) for record in records))
        assert moved.count(True) == 1
        stored = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        assert stored is not None
        assert (stored.text, list(stored.sources)) == (f"text {moved.index(True)}", records[moved.index(True)].sources)

    async def test_nobody_but_the_owner_can(self, chats):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        who = sent.identity
        assert not await chats.finish(who.chat_id, who.message_id, "another token", final())
        assert not await chats.finish(who.chat_id, who.user_message_id, sent.owner_token, final())
        assert not await chats.finish(who.chat_id, new_id(), sent.owner_token, final())
        assert not await chats.finish(await new_chat(chats), who.message_id, sent.owner_token, final())
        assert await chats.find_active(who.chat_id, "phone") is not None

    @pytest.mark.parametrize("microseconds", [-1, 1])
    async def test_the_reaper_ends_nothing_that_gave_a_sign_of_life(self, chats, microseconds):
        sent = opening(await new_chat(chats))
        await chats.open_answer(sent, ENOUGH)
        who = sent.identity
        seen_at = NOW + timedelta(microseconds=microseconds)
        interrupted = final("", Status.INTERRUPTED)
        assert not await chats.finish(who.chat_id, who.message_id, sent.owner_token, interrupted, if_seen_at=seen_at)
        assert await chats.checkpoint(told(sent, "alive"), sent.owner_token, seen_at)
        assert await chats.finish(who.chat_id, who.message_id, sent.owner_token, interrupted, if_seen_at=seen_at)


async def test_where_the_ai_s_view_begins_is_kept_with_the_chat(chats):
    chat_id = await new_chat(chats)
    first = await exchange(chats, chat_id, "q1", final("a1"))
    question_id = first.identity.user_message_id
    for kept in (question_id, None):
        await chats.keep_window(chat_id, kept)
        opened = await chats.open_answer(sent := opening(chat_id, "next"), ENOUGH)
        assert opened.window_from == kept
        assert opened.history[0].question_id == question_id
        await finish(chats, sent)


async def test_a_ping_is_answered(chats):
    assert await chats.ping() is None


def after(sent: NewAnswer, parent: NewAnswer | None) -> NewAnswer:
    """The same message, sent with a parent."""
    return replace(sent, parent_id=ROOT if parent is None else parent.identity.message_id)


def again(question: NewAnswer, session: str = "phone", attempt: str | None = None) -> NewAnswer:
    """Another answer to a message that was sent."""
    who = question.identity
    identity = AnswerIds(who.chat_id, attempt or new_id(), who.user_message_id, session, "model-1")
    deadline = NOW + timedelta(minutes=15)
    return NewAnswer(identity, "user", "", f"token-{new_id()}", NOW, deadline, is_regeneration=True)


async def ended(chats: Chats, sent: NewAnswer, text: str) -> list[QuestionAnswer]:
    """Open an answer, end it, and return the history that it got."""
    opened = await chats.open_answer(sent, ENOUGH)
    assert isinstance(opened, Started)
    assert await finish(chats, sent, final(text))
    return list(opened.history)


class TestBranches:
    async def test_a_message_follows_the_answer_that_it_names_and_nothing_else(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        await exchange(chats, chat_id, "q2", final("a2"))
        assert await ended(chats, after(opening(chat_id, "q2, edited"), first), "b2") == [QuestionAnswer("q1", "a1")]
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "a1"), QuestionAnswer("q2, edited", "b2")]

    async def test_the_first_message_can_be_edited(self, chats):
        chat_id = await new_chat(chats)
        await exchange(chats, chat_id, "q1", final("a1"))
        assert await ended(chats, after(opening(chat_id, "q1, edited"), None), "b1") == []
        assert await history(chats, chat_id) == [QuestionAnswer("q1, edited", "b1")]

    async def test_another_answer_gets_what_came_before_its_message_and_is_the_active_one(self, chats):
        chat_id = await new_chat(chats)
        await exchange(chats, chat_id, "q1", final("a1"))
        second = await exchange(chats, chat_id, "q2", final("a2"))
        await exchange(chats, chat_id, "q3", final("a3"))
        opened = await chats.open_answer(once_more := again(second), ENOUGH)
        assert (list(opened.history), opened.question) == ([QuestionAnswer("q1", "a1")], "q2")
        assert await finish(chats, once_more, final("b2"))
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "b2")]

    async def test_the_same_attempt_is_one_answer(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        attempt = new_id()
        found = await asyncio.gather(*(chats.open_answer(again(first, f"s{n}", attempt), ENOUGH) for n in range(8)))
        assert sum(isinstance(one, Started) for one in found) == 1
        assert sum(isinstance(one, AlreadyAnswered) for one in found) == 7
        assert {one.answer.identity.message_id for one in found if isinstance(one, AlreadyAnswered)} == {attempt}

    @pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
    async def test_an_attempt_that_has_ended_is_not_made_again(self, chats, status):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        attempt = new_id()
        await chats.open_answer(tried := again(first, attempt=attempt), ENOUGH)
        await finish(chats, tried, final("b1", status))
        found = await chats.open_answer(again(first, "laptop", attempt), ENOUGH)
        assert isinstance(found, AlreadyAnswered)
        assert (found.answer.identity.message_id, found.answer.text) == (attempt, "b1")

    async def test_of_several_attempts_at_once_one_runs_and_the_others_hear_of_it(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        found = await asyncio.gather(*(chats.open_answer(again(first, f"s{n}"), ENOUGH) for n in range(8)))
        assert sum(isinstance(one, Started) for one in found) == 1
        assert len({one.answer.identity.message_id for one in found if isinstance(one, SessionBusy)}) == 1

    async def test_a_session_that_is_busy_cannot_have_another_answer(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        await chats.open_answer(busy := opening(chat_id, "q2"), ENOUGH)
        found = await chats.open_answer(again(first), ENOUGH)
        assert isinstance(found, SessionBusy)
        assert found.answer.identity == busy.identity

    async def test_what_is_not_there_cannot_be_followed_or_answered_again(self, chats):
        chat_id, other = await new_chat(chats), await new_chat(chats)
        elsewhere = await exchange(chats, other, "q1", final("a1"))
        here = await exchange(chats, chat_id, "q1", final("a1"))
        for sent in (
            replace(opening(chat_id), parent_id=new_id()),
            after(opening(chat_id), elsewhere),
            replace(opening(chat_id), parent_id=here.identity.user_message_id),
            replace(again(elsewhere), identity=replace(again(elsewhere).identity, chat_id=chat_id)),
            replace(again(here), identity=replace(here.identity, user_message_id=here.identity.message_id)),
        ):
            with pytest.raises(MessageNotFound):
                await chats.open_answer(sent, ENOUGH)
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "a1")]

    async def test_a_running_answer_cannot_be_followed_by_name(self, chats):
        chat_id = await new_chat(chats)
        await chats.open_answer(running := opening(chat_id, "q1", session="laptop"), ENOUGH)
        found = await chats.open_answer(after(opening(chat_id, "q2"), running), ENOUGH)
        assert isinstance(found, SessionBusy)
        assert found.answer.identity == running.identity

    async def test_without_a_name_a_message_follows_what_another_device_is_being_told(self, chats):
        chat_id = await new_chat(chats)
        await chats.open_answer(running := opening(chat_id, "q1", session="laptop"), ENOUGH)
        assert await ended(chats, opening(chat_id, "q2"), "a2") == []
        await finish(chats, running, final("a1"))
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "a2")]

    async def test_a_message_sent_again_keeps_its_parent_and_refuses_another(self, chats):
        chat_id = await new_chat(chats)
        first = await exchange(chats, chat_id, "q1", final("a1"))
        edited = after(opening(chat_id, "q2"), first)
        await chats.open_answer(edited, ENOUGH)
        await finish(chats, edited, final("", Status.FAILED))
        await exchange(chats, chat_id, "q3", final("a3"))
        retried = opening(chat_id, "q2", edited.identity.user_message_id)
        with pytest.raises(IdempotencyConflict):
            await chats.open_answer(after(retried, None), ENOUGH)
        assert await ended(chats, retried, "a2") == [QuestionAnswer("q1", "a1")]

    async def test_a_late_retry_hides_nothing_that_was_said_since(self, chats):
        chat_id = await new_chat(chats)
        failed = await exchange(chats, chat_id, "q1", final("", Status.FAILED))
        await exchange(chats, chat_id, "q2", final("a2"))
        await exchange(chats, chat_id, "q1", final("a1"), failed.identity.user_message_id)
        assert await history(chats, chat_id) == [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "a2")]
