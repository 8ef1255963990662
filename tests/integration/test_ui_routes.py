"""The AI SDK's routes, through the applications on real stores and a real AI's wire."""

import asyncio
import json

import httpx
import pytest

from chat.adapters.redis import keys
from chat.domain.model import new_id
from chat.http.ui_routes import message_id
from tests.integration.test_contract import USER, Functions, held, problem
from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.waiting import until

OTHER = {"X-User-Id": "user-2"}


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


@pytest.fixture
async def functions(ai, embedded_redis, database_url):
    environ = {
        "REDIS_URL": embedded_redis,
        "MYSQL_URL": database_url,
        "OPENAI_BASE_URL": ai.url,
        "CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0",
        "CHAT_MESSAGES_PER_MINUTE": "0",
        "CHAT_CHATS_PER_MINUTE": "0",
    }
    async with Functions(environ, ai) as functions:
        functions.name = f"chat {new_id()}"  # on MySQL the tests share a database
        yield functions


def user_message(*texts: str, name: str = "m-1") -> dict:
    return {"id": name, "role": "user", "parts": [{"type": "text", "text": text} for text in texts]}


def sent(*messages: dict, name: str | None = None, **more: object) -> dict:
    return {"id": name, "messages": list(messages), "trigger": "submit-message", **more}


async def send(functions: Functions, body: object, headers=USER) -> httpx.Response:
    if body.get("id", "") is None:
        body = {**body, "id": functions.name}
    return await functions.ask("stream", "POST", "/api/ui/chat", headers=headers, json=body)


async def resume(functions: Functions, name: str | None = None, headers=USER) -> httpx.Response:
    path = f"/api/ui/chat/{name or functions.name}/stream"
    return await functions.ask("stream", "GET", path, headers=headers)


def chunks(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text(response: httpx.Response) -> str:
    return "".join(chunk["delta"] for chunk in chunks(response) if chunk["type"] == "text-delta")


async def test_a_first_message_makes_the_chat_and_a_second_one_goes_on_in_it(functions, ai):
    first = chunks(await send(functions, sent(user_message("one"))))
    assert [first[0]["type"], first[-1]["type"]] == ["start", "finish"]
    answer = {"id": first[0]["messageId"], "role": "assistant", "parts": [{"type": "text", "text": "forged"}]}
    second = chunks(await send(functions, sent(user_message("one"), answer, user_message("two", name="m-2"))))
    assert second[0]["messageMetadata"]["chatId"] == first[0]["messageMetadata"]["chatId"]
    assert [(turn["role"], turn["content"]) for turn in ai.calls[1].json["messages"]] == [
        ("user", "one"),
        ("assistant", "Hello world"),
        ("user", "two"),
    ]


async def test_a_message_that_is_sent_again_is_answered_once(functions, ai):
    responses = await asyncio.gather(*(send(functions, sent(user_message("one"))) for _ in range(5)))
    assert {text(response) for response in responses} == {"Hello world"}
    assert len({chunks(response)[0]["messageId"] for response in responses}) == 1
    assert len(ai.calls) == 1


async def test_the_same_name_of_two_users_is_two_chats(functions):
    mine, theirs = [
        chunks(await send(functions, sent(user_message("one")), headers))[0]["messageMetadata"]["chatId"]
        for headers in (USER, OTHER)
    ]
    assert mine != theirs


async def test_the_id_of_a_chat_is_that_chat_for_its_user_and_a_name_for_others(functions):
    chat_id = await functions.new_chat()
    mine, theirs = [
        chunks(await send(functions, sent(user_message("one"), name=chat_id), headers))[0]["messageMetadata"]["chatId"]
        for headers in (USER, OTHER)
    ]
    assert mine == chat_id
    assert theirs != chat_id


async def test_a_running_answer_is_replayed_and_followed(functions, ai, embedded_redis):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate))
    sending = asyncio.create_task(send(functions, sent(user_message("one"))))
    await gate.release()
    await gate.reached()
    resuming = asyncio.create_task(resume(functions))
    other_device = asyncio.create_task(resume(functions, headers={**USER, "X-Session-Id": "laptop"}))
    await until(lambda: held(embedded_redis, keys.limit(USER["X-User-Id"], "streams"), 3))
    await gate.open()
    assert text(await sending) == text(await resuming) == text(await other_device) == "Hello world"


async def test_nothing_to_resume_is_no_content(functions):
    assert (await resume(functions)).status_code == 204
    await send(functions, sent(user_message("one")))
    assert (await resume(functions)).status_code == 204
    assert (await resume(functions, new_id())).status_code == 204
    assert (await resume(functions, headers=OTHER)).status_code == 204


async def test_it_can_be_cancelled_by_its_message(functions, ai):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate))
    chat_id = await functions.new_chat()
    sending = asyncio.create_task(send(functions, sent(user_message("one"), name=chat_id)))
    await ai.called()
    await gate.release()
    await gate.reached()
    cancelled = await functions.cancel(chat_id, json={"userMessageId": message_id(chat_id, "m-1")})
    assert cancelled.json()["status"] == "cancelled"
    told = chunks(await sending)
    assert [chunk["type"] for chunk in told[-2:]] == ["abort", "finish"]
    assert told[-1]["messageMetadata"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        (sent(), 400, "invalid_request"),
        (sent({"id": "m", "role": "assistant", "parts": []}), 400, "invalid_request"),
        (sent({"id": "m", "role": "user"}), 400, "invalid_request"),
        (sent({"id": 7, "role": "user", "parts": [{"type": "text", "text": "x"}]}), 400, "invalid_request"),
        (sent(user_message("x"), name=""), 400, "invalid_request"),
        (sent(user_message("x"), name="n" * 201), 400, "invalid_request"),
        (sent({"id": "m", "role": "user", "parts": [{"type": "text", "text": 7}]}), 400, "invalid_request"),
        (sent(user_message(" ")), 422, "invalid_content"),
        (sent({"id": "m", "role": "user", "parts": []}), 422, "invalid_content"),
        (sent(user_message("x" * 32_001)), 422, "invalid_content"),
        (sent({"id": "m", "role": "user", "parts": [{"type": "file", "url": "x"}]}), 422, "unsupported_content"),
        (sent({"id": "m", "role": "user", "parts": ["x"]}), 422, "unsupported_content"),
    ],
)
async def test_what_cannot_be_accepted_is_refused_and_makes_no_chat(functions, ai, body, status, code):
    problem(await send(functions, body), status, code)
    assert not ai.calls


async def test_a_long_history_is_taken_though_it_is_not_read(functions):
    long = {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "x" * 500_000}]}
    assert text(await send(functions, sent(long, user_message("one")))) == "Hello world"
