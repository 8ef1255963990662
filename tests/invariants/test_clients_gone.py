"""Invariant 13: an answer whose client has gone is made to its end and stored, and leaves no connection behind."""

import asyncio

from chat.domain.model import Status
from chat.http.event_stream import EventStreamResponse
from chat.http.sse import encoder
from tests.kit import counts
from tests.kit.ai_server import Gate, say
from tests.kit.fleet import Fleet, Stores
from tests.kit.proxy import Proxy
from tests.kit.waiting import until

WORDS = [f"{number} " for number in range(12)]
SECONDS = 20
BASELINE_SECONDS = 15
"""The invariant says 5; more catches a connection that stays."""


class Leaver:
    """An ASGI client that takes so many messages with a body and is gone at the next."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.received: list[bytes] = []
        self.has_left = asyncio.Event()
        self.changed = asyncio.Event()

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start" and self.chunks >= 0:
            return
        if len(self.received) >= self.chunks:
            self.has_left.set()
            raise OSError("the client has gone")
        self.received.append(message["body"])
        self.changed.set()

    async def has(self, count: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(self.received) < count and not self.has_left.is_set():
                self.changed.clear()
                waits = [asyncio.create_task(event.wait()) for event in (self.changed, self.has_left)]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()


async def never() -> dict:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def respond(generation, client: Leaver) -> None:
    """Respond as the route does."""
    response = EventStreamResponse(generation, encoder(generation.answer.identity.message_id), 15, must_finish=True)
    await response({"type": "http"}, never, client.send)


async def leave(owner, ai, at: int) -> None:
    """Send a message, go away after `at` chunks, none for -1 even of the head; the answer must not notice."""
    gate = Gate()
    ai.script(say(*WORDS, gate=gate))
    generation = await owner.send(await owner.new_chat())
    client = Leaver(at)
    streaming = asyncio.create_task(respond(generation, client))
    async with asyncio.timeout(SECONDS):
        await gate.reached()
        for number in range(len(WORDS)):
            await client.has(1 + number)
            await gate.release()
        await gate.open()
        await streaming
    assert client.has_left.is_set()
    assert len(client.received) == max(at, 0)
    who = generation.answer.identity
    stored = await owner.chats.find_answer(who.chat_id, who.message_id)
    assert (stored.status, stored.text) == (Status.COMPLETED, "".join(WORDS))
    page = await owner.coordination.read(who.chat_id, who.message_id, 0)
    assert (len(page.events), page.ended) == (len(WORDS) + 2, True)


async def test_gone_at_each_chunk_the_whole_answer_is_stored_and_no_connection_left(fleet, stores, ai):
    """Invariant 13: at the head, and at each chunk from the first to the last."""
    async with Proxy(stores.redis_url) as redis:
        owner = await fleet.process(redis.url)
        await leave(owner, ai, 0)
        connected = redis.open_connections
        moments = range(-1, len(WORDS) + 1, 1 if counts.is_full() else 3)
        for at in moments:
            await leave(owner, ai, at)
        await until(lambda: redis.open_connections <= connected)
        await until(lambda: ai.open_connections <= 1)  # one that is idle, for the next answer
        assert len(ai.calls) == len(moments) + 1


async def test_all_clients_gone_at_once_leave_two_connections_to_redis_and_none_to_the_ai(
    embedded_redis, sqlite_url, ai
):
    """Invariant 13: many at a time; idle connections to the AI are dropped within the 5 s, too."""
    ai.default = say(*WORDS)
    async with Proxy(embedded_redis) as redis, Fleet(Stores(redis.url, sqlite_url), ai) as fleet:
        owner = await fleet.process(concurrency=10)
        for _ in range(counts.of(10)):
            generations = [await owner.send(await owner.new_chat()) for _ in range(20)]
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*(respond(each, Leaver(0)) for each in generations))
            for each in generations:
                stored = await owner.chats.find_answer(each.answer.identity.chat_id, each.answer.identity.message_id)
                assert (stored.status, stored.text) == (Status.COMPLETED, "".join(WORDS))
        async with asyncio.timeout(BASELINE_SECONDS):
            await ai.has_connections(0)
        await until(lambda: redis.open_connections <= 2)
