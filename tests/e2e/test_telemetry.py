"""What the processes of the running service write: whole lines of JSON, each answer's own, and nobody's words."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from httpx_sse import aconnect_sse

from chat.adapters.telemetry import metric_names
from tests.kit import ai_server
from tests.kit.ai_server import AIServer, Gate, say, status
from tests.kit.log_lines import Line, metrics, of, parse
from tests.kit.service import Service, running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("telemetry")]

CONTENT = "my account number is 4711"
SAID = "your account is overdrawn"
HEADER = "header-value-that-is-nobodys-business"
API_KEY = "sk-0123456789abcdef"
USER = "alice@example.com"
LIFE = [metric_names.STARTED, metric_names.FIRST_DELTA, metric_names.ENDED]


@asynccontextmanager
async def service_with(ai: AIServer):
    """The running service; its start and its end, which wait, in a thread."""
    environ = {
        "OPENAI_BASE_URL": ai.url,
        "OPENAI_API_KEY": API_KEY,
        "CHAT_MESSAGES_PER_MINUTE": "0",
        "CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0",
        "CHAT_MAX_STREAMS_PER_USER": "0",
        "CHAT_CHATS_PER_MINUTE": "0",
        "CHAT_AI_MAX_RETRIES": "0",
    }
    manager = running(environ)
    service = await asyncio.to_thread(manager.__enter__)
    try:
        yield service
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


class Talker:
    """A user with several devices."""

    def __init__(self, service: Service) -> None:
        self.client = httpx.AsyncClient(base_url=service.url, timeout=60, headers={"X-User-Id": USER, "X-Note": HEADER})

    async def __aenter__(self) -> "Talker":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def new_chat(self) -> str:
        return (await self.client.post("/api/chat/create", json={"title": CONTENT})).json()["chatId"]

    async def ask(self, chat_id: str, content: str, session: str = "phone") -> list[dict]:
        path, headers = f"/api/chat/{chat_id}/stream", {"X-Session-Id": session}
        async with aconnect_sse(self.client, "POST", path, json={"content": content}, headers=headers) as events:
            return [json.loads(event.data) async for event in events.aiter_sse()]

    async def cancel(self, chat_id: str, session: str = "phone") -> dict:
        return (await self.client.post(f"/api/chat/{chat_id}/cancel", headers={"X-Session-Id": session})).json()


def life(lines: list[Line], events: list[dict]) -> list[Line]:
    return [line for line in lines if line.get("messageId") == events[0]["messageId"] and line["message"] in LIFE]


async def test_a_completed_a_failed_and_a_cancelled_answer_in_the_log():
    async with AIServer() as ai, service_with(ai) as service, Talker(service) as talker:
        chat_id, gate = await talker.new_chat(), Gate()
        ai.script(say(SAID, " indeed"), status(500, {"error": {"message": SAID}}), say(SAID, "more", gate=gate))
        completed = await talker.ask(chat_id, CONTENT)
        failed = await talker.ask(chat_id, CONTENT)
        running_answer = asyncio.create_task(talker.ask(chat_id, CONTENT))
        await ai.called(3)
        await gate.release(1)
        await gate.reached()
        reply = await talker.cancel(chat_id)
        cancelled = await running_answer
        logs = {name: service.log(name) for name in ("create_chat", "stream_chat", "cancel_stream", "manage_chats")}

    lines = parse(logs["stream_chat"])
    ends = {}
    for events, expected in ((completed, LIFE), (failed, [LIFE[0], LIFE[2]]), (cancelled, LIFE)):
        mine = life(lines, events)
        assert [line["message"] for line in mine] == expected
        assert len({line["requestId"] for line in mine}) == 1
        ends[mine[-1]["status"]] = mine[-1]
    assert set(ends) == {"completed", "failed", "cancelled"}
    assert (ends["completed"]["Deltas"], ends["completed"]["characters"]) == (2, len(SAID + " indeed"))
    assert ends["failed"]["errorCode"] == "ai_unavailable"
    assert metrics(ends["failed"])["AnswerFailed"] == 1
    assert ends["cancelled"]["characters"] == reply["characters"] == len(SAID)
    (cancel,) = of(parse(logs["cancel_stream"]), metric_names.CANCEL)
    assert (cancel["outcome"], cancel["messageId"]) == ("Cancelled", cancelled[0]["messageId"])
    assert cancel["requestId"] and cancel["service"] == "cancel_stream"
    for log in logs.values():
        for words in (CONTENT, "4711", SAID, "overdrawn", HEADER, API_KEY, USER, "alice"):
            assert words not in log, words


async def test_sixteen_answers_at_once_in_one_process_do_not_mix():
    gate = Gate()

    async def count(call) -> None:
        """Say as many words as the message asks for, when all have been asked."""
        number = int(call.json["messages"][-1]["content"])
        await call.start()
        await gate.pass_through()
        for _ in range(number):
            await call.send(ai_server.text("word "))
        await call.send(ai_server.finish() + ai_server.usage(number, number) + ai_server.DONE)
        await call.end()

    async with AIServer() as ai, service_with(ai) as service, Talker(service) as talker:
        ai.default = count
        chats = [await talker.new_chat() for _ in range(16)]
        asked = [asyncio.create_task(talker.ask(chats[n], str(n + 1), f"session-{n}")) for n in range(16)]
        await gate.reached(16)
        await gate.open()
        answers = await asyncio.gather(*asked)
        log = service.log("stream_chat")

    lines = parse(log)
    assert max(metrics(line)["ProcessStreams"] for line in of(lines, metric_names.STARTED)) == 16
    requests = set()
    for number, events in enumerate(answers):
        mine = life(lines, events)
        assert [line["message"] for line in mine] == LIFE
        assert {line["chatId"] for line in mine} == {chats[number]}
        assert len({line["session"] for line in mine}) == 1
        assert (mine[-1]["InputTokens"], mine[-1]["characters"]) == (number + 1, 5 * (number + 1))
        (request,) = {line["requestId"] for line in mine}
        requests.add(request)
    assert len(requests) == 16
