"""aiva-chat-client on the real service: cut connections, killed processes, several devices."""

import asyncio
import os
import signal

import pytest

from aiva_chat_client import AsyncChatClient, ChatClient, Delta
from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.proxy import Proxy
from tests.kit.service import running
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WORDS = ["하나 ", "둘 👩‍👩‍👧‍👦 ", "셋 ", "넷"]
USER = {"X-User-Id": "user-1"}


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


async def test_cut_in_the_midst_it_goes_on_without_a_gap_or_a_repetition(ai, service):
    ai.default = say(*WORDS, gate=(gate := Gate()))
    async with Proxy(service.url) as proxy, AsyncChatClient(proxy.url, headers=USER) as client:
        answer = client.ask(await client.create_chat(), "count")
        deltas = []
        async with asyncio.TaskGroup() as group:
            group.create_task(collect(answer, deltas))
            for number in range(len(WORDS)):
                await gate.release()
                await until(lambda number=number: len(deltas) > number)
                proxy.cut()
            await gate.open()
    assert deltas == WORDS
    assert answer.done.status == "completed"
    assert len(ai.calls) == 1


async def collect(answer, deltas: list[str]) -> None:
    async for event in answer:
        deltas += [event.text] if isinstance(event, Delta) else []


async def test_a_second_device_watches_and_cancels(ai, service):
    ai.default = say(*WORDS, gate=(gate := Gate()))
    async with (
        AsyncChatClient(service.url, headers=USER) as phone,
        AsyncChatClient(service.url, headers=USER) as tablet,
    ):
        chat_id = await phone.create_chat()
        asked, watched = phone.ask(chat_id, "count"), []
        async with asyncio.TaskGroup() as group:
            group.create_task(asked.read())
            await gate.release()
            await until(lambda: asked.text)
            watching = tablet.watch(chat_id)
            group.create_task(collect(watching, watched))
            await until(lambda: watched)
            assert (await watching.cancel())["status"] == "cancelled"
    assert asked.text == watching.text == WORDS[0]
    assert asked.done == watching.done
    assert asked.done.status == "cancelled"


async def test_a_process_that_dies_ends_the_answer_as_interrupted_with_its_text(ai, service):
    ai.default = say(*WORDS, gate=(gate := Gate()))
    async with AsyncChatClient(service.url, headers=USER) as client:
        answer = client.ask(await client.create_chat(), "count")
        async with asyncio.TaskGroup() as group:
            group.create_task(answer.read())
            await gate.release()
            await until(lambda: answer.text == WORDS[0])
            for pid in service.pids("-m lambda_stream"):
                os.kill(pid, signal.SIGKILL)
    assert (answer.done.status, answer.text) == ("interrupted", WORDS[0])


async def test_without_asyncio(ai, service):
    ai.default = say(*WORDS)

    def chat() -> tuple[str, str, list[str]]:
        with ChatClient(service.url, headers=USER) as client:
            answer = client.ask(client.create_chat(), "count")
            text = answer.read()
            return text, answer.done.status, [one["content"] for one in client.messages(answer.chat_id)]

    assert await asyncio.to_thread(chat) == ("".join(WORDS), "completed", ["".join(WORDS), "count"])
