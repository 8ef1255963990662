"""Titles by the AI, through the applications on real stores and a real AI's wire."""

import asyncio

import pytest

from chat.domain.model import new_id
from tests.integration.test_contract import events, problem
from tests.integration.test_manage_chats import Library
from tests.integration.test_ui_routes import chunks, sent, user_message
from tests.kit.ai_server import AIServer, Call, Gate, Script, say, status
from tests.kit.waiting import until


def is_for_a_title(call: Call) -> bool:
    return call.json["messages"][0]["content"].startswith("You name conversations.")


class Titles(Library):
    """The functions, whose AI has one script for titles and one for answers."""

    def __init__(self, environ, ai) -> None:
        super().__init__(environ, ai)
        self.title: Script = say("A greeting")
        self.answer: Script = say("Hello world")
        ai.default = lambda call: (self.title if is_for_a_title(call) else self.answer)(call)

    @property
    def titles_asked(self) -> list[Call]:
        return [call for call in self.ai.calls if is_for_a_title(call)]

    async def begin(self, chat_id: str) -> asyncio.Task:
        """Ask, and return once the title has been asked for."""
        asked = len(self.titles_asked)
        task = asyncio.create_task(self.stream(chat_id, {"content": "hello"}, self.device))
        await until(lambda: len(self.titles_asked) > asked)
        return task

    async def title_of(self, chat_id: str) -> str | None:
        return (await self.get(f"/api/chat/{chat_id}")).json()["title"]


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


@pytest.fixture
def environ(ai, embedded_redis, database_url) -> dict[str, str]:
    limits = ("CHAT_MAX_ACTIVE_ANSWERS_PER_USER", "CHAT_MESSAGES_PER_MINUTE", "CHAT_CHATS_PER_MINUTE")
    return {
        "REDIS_URL": embedded_redis,
        "MYSQL_URL": database_url,
        "OPENAI_BASE_URL": ai.url,
        "CHAT_TITLES": "ai",
        "CHAT_MODELS": "large,small",
        **dict.fromkeys(limits, "0"),
    }


@pytest.fixture
async def library(environ, ai):
    async with Titles(environ, ai) as library:
        yield library


def titles_told(response) -> list[str]:
    return [data["title"] for _, name, data in events(response) if name == "title"]


async def test_the_first_answer_brings_it_and_no_later_one(library):
    library.answer = say("Hello", " world", gate=(gate := Gate()))
    chat_id = await library.new_chat(library.user)
    await gate.release()
    first = await library.begin(chat_id)
    await until(lambda: titled(library))
    await gate.open()
    told = events(await first)
    assert [name for _, name, _ in told] == ["start", "", "title", "", "done"]
    assert [int(event_id.rsplit(":")[1]) for event_id, _, _ in told[:-1]] == [1, 2, 3, 4]
    assert await library.title_of(chat_id) == "A greeting"
    assert titles_told(await library.stream(chat_id, {"content": "more"}, library.device)) == []
    assert len(library.titles_asked) == 1


async def test_it_delays_neither_the_first_delta_nor_the_end_and_is_stored_when_it_comes(library):
    library.title = say("Late", gate=(gate := Gate()))
    chat_id = await library.new_chat(library.user)
    run = await library.begin(chat_id)
    answered = await until(lambda: ended(library, chat_id))
    assert answered["status"] == "completed"
    assert await library.title_of(chat_id) == "hello"
    await gate.open()
    assert titles_told(await run) == []
    assert await library.title_of(chat_id) == "Late"


async def ended(library, chat_id: str) -> dict | None:
    """Return the answer once it is stored as ended."""
    answers = [one for one in (await library.messages(chat_id))["messages"] if one["role"] == "assistant"]
    return answers[0] if answers and answers[0]["status"] != "streaming" else None


@pytest.mark.parametrize(
    "script",
    [status(500), status(401), say(""), say(" \n"), say("**"), say("x", reason=None, with_done=False)],
    ids=["500", "401", "nothing", "blank", "marks", "cut off"],
)
async def test_where_it_fails_the_first_message_stays(library, script):
    library.title = script
    chat_id = await library.chat("hello")
    assert await library.title_of(chat_id) == "hello"


async def test_a_title_that_a_person_has_given_stays(library):
    library.title = say("By the AI", gate=(gate := Gate()))
    chat_id = await library.new_chat(library.user)
    run = await library.begin(chat_id)
    await library.change(chat_id, title="By a person")
    await gate.open()
    assert titles_told(await run) == []
    assert await library.title_of(chat_id) == "By a person"
    named = (await library.create(library.user, json={"title": "Named"})).json()["chatId"]
    asked = len(library.titles_asked)
    await library.say(named, "hello")
    assert (len(library.titles_asked), await library.title_of(named)) == (asked, "Named")


async def test_a_chat_that_is_deleted_meanwhile_does_not_come_back(library):
    library.title = say("By the AI", gate=(gate := Gate()))
    chat_id = await library.new_chat(library.user)
    run = await library.begin(chat_id)
    assert (await library.delete(f"/api/chat/{chat_id}")).status_code == 204
    await gate.open()
    assert titles_told(await run) == []
    problem(await library.get(f"/api/chat/{chat_id}"), 404, "chat_not_found")
    assert await library.listed(q="By the AI") == []


async def test_it_is_found_by_the_search_until_a_person_gives_another(library):
    library.title = say("Zebra crossing")
    chat_id = await library.chat("hello")
    assert [chat["chatId"] for chat in await library.listed(q="zebra")] == [chat_id]
    await library.change(chat_id, title="Another")
    assert await library.listed(q="zebra") == []


async def test_the_answer_s_model_is_asked_with_the_message_alone(library):
    chat_id = await library.new_chat(library.user)
    await library.say(chat_id, "안녕하세요", model="small")
    (call,) = library.titles_asked
    assert (call.json["model"], [turn["role"] for turn in call.json["messages"]]) == ("small", ["system", "user"])
    assert call.json["messages"][1]["content"] == "안녕하세요"


async def test_another_model_may_be_set(environ, ai):
    async with Titles(environ | {"CHAT_TITLE_MODEL": "small"}, ai) as library:
        await library.chat("hello")
        (call,) = library.titles_asked
        assert call.json["model"] == "small"


@pytest.mark.parametrize(("titles", "is_refused"), [("ai", True), ("first-message", False)])
async def test_what_it_costs_counts_for_the_day(environ, ai, titles, is_refused):
    async with Titles(environ | {"CHAT_TOKENS_PER_DAY": "8", "CHAT_TITLES": titles}, ai) as library:
        chat_id = await library.chat("hello")  # an answer is 5 tokens, and so is a title
        response = await library.stream(chat_id, {"content": "more"}, library.device)
        assert (response.status_code == 429) is is_refused


async def test_the_ai_sdk_gets_it_as_a_transient_part(library):
    library.answer = say("Hello", " world", gate=(gate := Gate()))
    name = f"chat {new_id()}"
    body = sent(user_message("hello"), name=name)
    run = asyncio.create_task(library.ask("stream", "POST", "/api/ui/chat", headers=library.user, json=body))
    await gate.release()
    await until(lambda: titled(library))
    await gate.open()
    parts = [part for part in chunks(await run) if part["type"] == "data-title"]
    assert parts == [{"type": "data-title", "data": {"title": "A greeting"}, "transient": True}]


async def titled(library) -> bool:
    return [chat["title"] for chat in await library.listed()] == ["A greeting"]


async def test_without_the_setting_the_first_message_is_the_title(environ, ai):
    async with Titles(environ | {"CHAT_TITLES": "first-message"}, ai) as library:
        assert await library.title_of(await library.chat("hello")) == "hello"
        assert library.titles_asked == []
