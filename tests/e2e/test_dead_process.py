"""Answers whose process was killed, or stood still for longer than its lease, on the real service (invariant 4)."""

import asyncio
import json
import os
import signal

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.service import running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

USER = {"X-User-Id": "user-1"}
DEVICE = {**USER, "X-Session-Id": "phone"}
WORDS = ["하나 ", "둘 ", "셋 ", "넷"]


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


@pytest.fixture
async def service(ai):
    loop = asyncio.get_running_loop()
    context = running({"OPENAI_BASE_URL": ai.url})
    yield await loop.run_in_executor(None, context.__enter__)
    await loop.run_in_executor(None, context.__exit__, None, None, None)


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(base_url=service.url, timeout=90) as client:
        yield client


async def new_chat(client) -> str:
    return (await client.post("/api/chat/create", headers=USER)).json()["chatId"]


def text(events: list[ServerSentEvent]) -> str:
    return "".join(json.loads(event.data)["delta"] for event in events if event.event == "message")


async def read_until(events, count: int) -> list[ServerSentEvent]:
    """Read events until `count` deltas have come."""
    got = []
    while sum(event.event == "message" for event in got) < count:
        got.append(await anext(events))
    return got


async def watch(client, chat_id: str, **headers: str) -> list[ServerSentEvent]:
    async with aconnect_sse(client, "GET", f"/api/chat/{chat_id}/stream", headers={**DEVICE, **headers}) as source:
        return [event async for event in source.aiter_sse()]


async def test_killed_in_mid_answer_it_ends_interrupted_with_all_that_was_seen(service, client, ai):
    gate = Gate()
    ai.default = say(*WORDS, gate=gate)
    chat_id = await new_chat(client)
    with pytest.raises(httpx.HTTPError):  # the connection breaks
        async with aconnect_sse(
            client, "POST", f"/api/chat/{chat_id}/stream", headers=DEVICE, json={"content": "count"}
        ) as source:
            events = source.aiter_sse()
            await gate.release(2)
            got = await read_until(events, 2)
            # Watched from another device, the log has what was delivered: the beat has been.
            other = {**DEVICE, "X-Session-Id": "tablet"}
            async with aconnect_sse(client, "GET", f"/api/chat/{chat_id}/stream", headers=other) as tablet:
                assert text(await read_until(tablet.aiter_sse(), 2)) == text(got)
                for pid in service.pids("-m lambda_stream"):
                    os.kill(pid, signal.SIGKILL)
            async for _ in events:
                pass
    rest = await watch(client, chat_id, **{"Last-Event-ID": got[-1].id})
    assert [event.event for event in rest] == ["failure", "done"]
    assert json.loads(rest[-1].data)["status"] == "interrupted"
    assert json.loads(rest[-1].data)["characters"] == len(text(got))
    assert rest[-1].id == f"{got[0].id.split(':')[0]}:done"
    ai.default = say("go on")
    async with aconnect_sse(
        client, "POST", f"/api/chat/{chat_id}/stream", headers=DEVICE, json={"content": "next"}
    ) as source:
        assert text([event async for event in source.aiter_sse()]) == "go on"
    asked = [turn["content"] for turn in ai.calls[-1].json["messages"]]
    assert asked == ["count", text(got), "next"]


async def test_frozen_beyond_its_lease_an_owner_gives_way_to_what_was_stored_without_it(service, client, ai):
    gate = Gate()
    ai.default = say(*WORDS, gate=gate)
    chat_id = await new_chat(client)
    async with aconnect_sse(
        client, "POST", f"/api/chat/{chat_id}/stream", headers=DEVICE, json={"content": "count"}
    ) as source:
        events = source.aiter_sse()
        await gate.release(1)
        got = await read_until(events, 1)
        frozen = service.pids("-m lambda_stream")
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        await gate.release(1)  # arrives while nobody is there
        message_id = got[0].id.split(":")[0]
        reply = {"status": "cancelling"}
        while reply["status"] == "cancelling":  # nobody answers the cancel until the owner is dead by both clocks
            reply = (
                await client.post(f"/api/chat/{chat_id}/cancel", headers=DEVICE, json={"messageId": message_id})
            ).json()
        assert reply["status"] == "not_active"
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        got += [event async for event in events]
    last = [event.event for event in got]
    assert last[-2:] == ["failure", "done"]
    assert json.loads(got[-1].data)["status"] == "interrupted"
    afresh = len(last) - 1 - last[::-1].index("start")
    replayed = await watch(client, f"{chat_id}", **{"Last-Event-ID": f"{message_id}:999"})
    assert text(replayed) == text(got[afresh:])
    assert json.loads(replayed[-1].data) == json.loads(got[-1].data)
    await ai.calls[0].closed.wait()
