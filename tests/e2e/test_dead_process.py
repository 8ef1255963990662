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
from tests.kit.waiting import until

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


async def kill(service) -> None:
    """Kill what answers streams, and wait until other processes do."""
    dead = service.pids("-m lambda_stream")
    for pid in dead:
        os.kill(pid, signal.SIGKILL)

    def is_replaced() -> bool:
        alive = service.pids("-m lambda_stream")
        return len(alive) >= len(dead) and not set(alive) & set(dead)

    await until(is_replaced)


async def test_killed_after_any_number_of_words_each_answer_holds_all_that_was_seen(ai):
    """One process with answers after 0, 1, 2 ... words: what another device has seen is logged, and each goes on."""
    gates = {f"stop after {count}": (Gate(), count) for count in range(len(WORDS) + 1)}

    async def script(call):
        gate, _ = gates.get(call.json["messages"][-1]["content"], (None, 0))
        await (say(*WORDS, gate=gate) if gate else say("go on"))(call)

    ai.default = script
    limits = {"CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0", "CHAT_MAX_STREAMS_PER_USER": "0"}
    settings = {"OPENAI_BASE_URL": ai.url, "AWS_LAMBDA_MAX_CONCURRENCY": "16", **limits}
    loop, context = asyncio.get_running_loop(), running(settings)
    service = await loop.run_in_executor(None, context.__enter__)
    try:
        async with httpx.AsyncClient(base_url=service.url, timeout=90) as client:
            seen, replaced = asyncio.Barrier(len(gates) + 1), asyncio.Event()
            lives = [asyncio.create_task(killed(client, seen, replaced, name, *gates[name])) for name in gates]
            await seen.wait()
            await kill(service)
            replaced.set()
            await asyncio.gather(*lives)
        asked = [[turn["content"] for turn in call.json["messages"]] for call in ai.calls[len(gates) :]]
        texts = ["".join(WORDS[:count]) for count in range(len(gates))]
        # What was asked stays asked: without an answer it is one turn with the next message.
        wanted = [[name, had, "next"] if had else [f"{name}\n\nnext"] for name, had in zip(gates, texts, strict=True)]
        assert sorted(asked) == sorted(wanted)
    finally:
        await loop.run_in_executor(None, context.__exit__, None, None, None)


async def killed(client, seen: asyncio.Barrier, replaced: asyncio.Event, content: str, gate: Gate, count: int) -> None:
    """See `count` words on two devices, then the connections break; come back and get the end."""
    chat_id = await new_chat(client)
    path, other = f"/api/chat/{chat_id}/stream", {**DEVICE, "X-Session-Id": "tablet"}
    got: list[ServerSentEvent] = []
    with pytest.raises(httpx.HTTPError):
        async with aconnect_sse(client, "POST", path, headers=DEVICE, json={"content": content}) as source:
            events = source.aiter_sse()
            got.append(await anext(events))
            await gate.release(count)
            got += await read_until(events, count)
            async with aconnect_sse(client, "GET", path, headers=other) as tablet:
                there = tablet.aiter_sse()
                assert (await anext(there)).id == got[0].id
                assert text(await read_until(there, count)) == text(got)
                await seen.wait()
                async for _ in events:
                    pass
    await replaced.wait()
    rest = await watch(client, chat_id, **{"Last-Event-ID": got[-1].id})
    assert [event.event for event in rest] == ["failure", "done"]
    done = json.loads(rest[-1].data)
    assert (done["status"], done["characters"]) == ("interrupted", len(text(got)))
    assert text(await watch(client, chat_id, **{"Last-Event-ID": f"{done['messageId']}:999"})) == text(got)
    async with aconnect_sse(client, "POST", path, headers=DEVICE, json={"content": "next"}) as source:
        assert text([event async for event in source.aiter_sse()]) == "go on"


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
