"""The client on the service's own applications, and what it does when they refuse."""

import asyncio
import itertools
import uuid

import httpx
import pytest
from httpx_sse import ServerSentEvent

from aiva_chat_client import (
    ROOT,
    AsyncChatClient,
    BearerAuth,
    ChatClient,
    ChatServiceError,
    Delta,
    Done,
    Failure,
    Request,
    Source,
    Sources,
    Start,
    StreamBroken,
    Title,
    Unknown,
)
from aiva_chat_client._events import parse
from aiva_chat_client._protocol import ATTEMPTS, Progress
from clients.python.unasync import FOLDER, synchronous
from tests.integration.test_contract import Functions
from tests.kit.ai_server import AIServer, say

FUNCTION = {"create": "create", "stream": "stream", "cancel": "cancel", "manage": "manage"}


def test_the_synchronous_client_is_made_of_the_other_one():
    """Otherwise: python clients/python/unasync.py."""
    assert (FOLDER / "_sync.py").read_text() == synchronous((FOLDER / "_async.py").read_text())


@pytest.mark.parametrize(
    ("name", "data", "event"),
    [
        ("message", '{"delta": "값"}', Delta("값")),
        ("title", '{"title": "A"}', Title("A")),
        ("sources", '{"sources": [{"title": "t", "url": "u"}]}', Sources((Source("t", "u"),))),
        ("failure", '{"code": "c", "message": "m", "retryable": true}', Failure("c", "m", True)),
        (
            "done",
            '{"status": "completed", "finishReason": "stop", "messageId": "1", "usage": {}, "characters": 2, "new": 1}',
            Done("completed", "stop", "1", {}, 2),
        ),
        ("later", '{"x": 1}', Unknown("later", {"x": 1})),
    ],
)
def test_events_are_values(name, data, event):
    assert parse(name, data) == event


@pytest.mark.parametrize("data", ["", "{", "[]", "{}", "null"])
def test_what_is_no_such_event_is_an_error(data):
    with pytest.raises(ValueError):
        parse("message", data)


def test_a_start_voids_what_came_before():
    progress = Progress()
    start = '{"chatId": "c", "messageId": "m", "userMessageId": "u", "sessionId": "s", "model": "x"}'
    for name, data in (
        ("start", start),
        ("message", '{"delta": "old"}'),
        ("start", start),
        ("message", '{"delta": "new"}'),
    ):
        progress.take(ServerSentEvent(name, data, "id"))
    assert (progress.text, progress.message_id) == ("new", "m")


@pytest.fixture
async def client(embedded_redis, sqlite_url):
    async with AIServer() as ai:
        ai.default = say("안녕", "하세요 👋")
        environ = {"REDIS_URL": embedded_redis, "MYSQL_URL": sqlite_url, "OPENAI_BASE_URL": ai.url}
        async with Functions(environ, ai) as functions:
            transport = Routed(functions)
            urls = {name: f"http://{name}" for name in FUNCTION}
            async with AsyncChatClient(urls, headers={"x-user-id": "user-1"}, transport=transport) as client:
                client.transport = transport
                yield client


class Routed(httpx.AsyncBaseTransport):
    """Hands each request to the application that its host names; may answer in its place."""

    def __init__(self, functions: Functions) -> None:
        self.apps = {name: httpx.ASGITransport(functions.apps[name]) for name in FUNCTION}
        self.instead: list[httpx.Response | Exception] = []
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.instead:
            answer = self.instead.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await self.apps[request.url.host].handle_async_request(request)


async def test_a_chat_from_its_beginning_to_its_end(client):
    chat_id = await client.create_chat(system_prompt="Be brief.")
    answer = client.ask(chat_id, "첫 질문")
    events = [event async for event in answer]
    assert isinstance(events[0], Start)
    assert answer.text == "안녕하세요 👋"
    assert (answer.done.status, answer.done.characters) == ("completed", 7)
    assert events[0].user_message_id == answer.user_message_id
    again = client.watch(chat_id, answer.message_id)
    assert await again.read() == answer.text
    other = client.regenerate(chat_id, answer.user_message_id)
    assert await other.read() == answer.text
    assert other.message_id != answer.message_id
    edited = client.ask(chat_id, "고친 질문", parent_id=ROOT)
    await edited.read()
    assert [message["content"] async for message in client.messages(chat_id)] == [edited.text, "고친 질문"]
    assert [message["content"] async for message in client.messages(chat_id, leaf=answer.message_id)][1] == "첫 질문"
    await client.rate(chat_id, edited.message_id, "up", "좋아요")
    rated, _ = [message async for message in client.messages(chat_id)]
    assert rated["feedback"]["rating"] == "up"
    await client.rate(chat_id, edited.message_id, None)
    assert (await client.update_chat(chat_id, title="새 제목"))["title"] == "새 제목"
    assert (await client.chat(chat_id))["title"] == "새 제목"
    assert [chat["chatId"] async for chat in client.chats("고친")] == [chat_id]
    assert [model["default"] for model in await client.models()] == [True]
    await client.delete_chat(chat_id)
    with pytest.raises(ChatServiceError) as refused:
        await client.chat(chat_id)
    assert (refused.value.status, refused.value.code) == (404, "chat_not_found")


async def test_lists_are_asked_for_page_by_page(client):
    chats = [await client.create_chat() for _ in range(5)]
    assert [chat["chatId"] async for chat in client.chats(limit=2)] == chats[::-1]
    for number in range(3):
        await client.ask(chats[0], str(number)).read()
    asked = [one["content"] async for one in client.messages(chats[0], limit=2) if one["role"] == "user"]
    assert asked == ["2", "1", "0"]
    assert await client.delete_all_chats() == 5


async def test_the_same_key_is_the_same_chat(client):
    assert await client.create_chat(idempotency_key="k") == await client.create_chat(idempotency_key="k")


async def test_nothing_to_watch_and_nothing_to_cancel(client):
    chat_id = await client.create_chat()
    assert [event async for event in client.watch(chat_id)] == []
    assert (await client.cancel(chat_id))["success"] is False


async def test_a_cancel_may_come_before_its_message(client):
    chat_id = await client.create_chat()
    answer = client.ask(chat_id, "first")
    await answer.cancel()
    await answer.read()
    assert answer.done.status == "cancelled"


async def test_what_passes_is_tried_again_and_starts_nothing_twice(client):
    chat_id = await client.create_chat()
    client.transport.instead = [
        httpx.ConnectError("refused"),
        httpx.Response(503, headers={"retry-after": "0"}),
        httpx.Response(200, headers={"content-type": "text/html"}, content=b"<p>"),
        httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: {\n\n"),
    ]
    answer = client.ask(chat_id, "once")
    assert await answer.read() == "안녕하세요 👋"
    sent = [request.content for request in client.transport.requests if request.url.host == "stream"]
    assert len(sent) == 5
    assert len(set(sent)) == 1
    assert len([one async for one in client.messages(chat_id)]) == 2


async def test_what_does_not_pass_is_given_up(client):
    chat_id = await client.create_chat()
    client.transport.instead = [httpx.Response(503, headers={"retry-after": "0"}) for _ in range(ATTEMPTS)]
    with pytest.raises(ChatServiceError) as refused:
        await client.ask(chat_id, "never").read()
    assert (refused.value.status, str(refused.value)) == (503, "HTTP 503")


def test_so_is_a_stream_that_always_breaks():
    progress = Progress()
    for _ in range(ATTEMPTS - 1):
        progress.pause(None)
    with pytest.raises(StreamBroken):
        progress.pause(OSError())


def test_pauses_grow_and_what_the_service_asks_for_goes_first():
    progress = Progress()
    pauses = [progress.pause(None) for _ in range(ATTEMPTS - 1)]
    assert all(0.25 <= pause <= 10 for pause in pauses)
    assert pauses[-1] >= 5 > pauses[0]
    progress = Progress()
    progress.refused(httpx.Response(503, headers={"retry-after": "3"}))
    assert progress.pause(None) == 3


async def test_a_refusal_says_why_and_when_to_come_back(client):
    client.transport.instead = [
        httpx.Response(
            429, headers={"retry-after": "7"}, json={"code": "rate_limited", "detail": "Too many.", "status": 429}
        )
    ]
    with pytest.raises(ChatServiceError, match=r"^Too many\.$") as refused:
        await client.ask(str(uuid.uuid4()), "one too many").read()
    assert (refused.value.code, refused.value.retry_after_seconds) == ("rate_limited", 7)


async def test_an_answer_that_is_left_goes_on(client):
    chat_id = await client.create_chat()
    answer = client.ask(chat_id, "left")
    async for event in answer:
        if isinstance(event, Delta):
            break
    await answer.close()
    assert await client.watch(chat_id, answer.message_id).read() == "안녕하세요 👋"


async def test_a_body_comes_with_its_digest(client):
    await client.create_chat("title")
    (request,) = client.transport.requests
    assert len(request.headers["x-amz-content-sha256"]) == 64
    response = await client.send(Request("manage", "GET", "/health"))
    assert response.status_code == 200
    assert "x-amz-content-sha256" not in response.request.headers


def test_a_token_is_asked_for_before_each_request():
    tokens = map(str, itertools.count())
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"models": []})

    auth = BearerAuth(lambda: next(tokens))
    with ChatClient("http://service", auth=auth, transport=httpx.MockTransport(answer)) as client:
        client.models()
        client.models()
    assert seen == ["Bearer 0", "Bearer 1"]


def test_both_clients_have_the_same_methods():
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(ChatClient) == names(AsyncChatClient)
    assert asyncio.iscoroutinefunction(AsyncChatClient.create_chat)
