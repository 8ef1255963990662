"""What an answer leaves behind when it has ended: nothing that waits for the garbage collector, which looks rarely."""

import asyncio
import gc
from collections import Counter

import pytest

from tests.kit.ai_server import AIServer, cut, say, status, text
from tests.kit.fleet import Fleet, Stores, patient
from tests.kit.world import Client

WAYS = {"completed": say("a ", "b"), "cancelled": patient, "failed": status(400), "cut": cut(text("a "))}


@pytest.fixture
async def fleet(embedded_redis, sqlite_url):
    async with AIServer() as ai, Fleet(Stores(embedded_redis, sqlite_url), ai) as fleet:
        yield fleet


async def an_answer(process, way: str) -> str:
    client = Client()
    generation = await process.send(await process.new_chat(), "1")
    running = asyncio.create_task(generation.run(client))
    if way == "cancelled":
        await client.has(2)
        generation.cancel()
        generation.cancel()
    await running
    return client.done["status"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_has_ended_is_gone_without_the_garbage_collector(fleet, way):
    """Each may hold a whole conversation, several times over."""
    fleet.ai.default = WAYS[way]
    process = await fleet.process()
    await an_answer(process, way)  # what is made once
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        ended = [await an_answer(process, way) for _ in range(5)]
        gc.collect()
        left = Counter(type(one).__qualname__ for one in gc.garbage if is_ours(one))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert set(ended) == {"failed" if way == "cut" else way}
    assert not left


def is_ours(one: object) -> bool:
    return type(one).__module__.partition(".")[0] in ("chat", "httpx", "httptools")
