"""Invariant 1: no cancel is lost, whenever it comes and whatever happens to the subscription."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest

from chat.application.cancel_answer import Cancelled, Cancelling
from chat.domain.model import Status, new_id
from tests.kit import counts
from tests.kit.fleet import Process, kill_subscriptions, said
from tests.kit.proxy import Proxy
from tests.kit.waiting import jitter, until
from tests.kit.world import Client

AT_ONCE = 25
SECONDS = 30
"""Catches a lost cancel: its answer would never end."""

Disturb = Callable[[], Awaitable[None]]


async def nothing() -> None:
    pass


class Schedule:
    """One answer in one process, and one cancel of it from another, at a random time."""

    def __init__(self, seed: int, owner: Process, other: Process, disturb: Disturb) -> None:
        self.random = Random(seed)
        self.owner, self.other, self.disturb = owner, other, disturb
        self.words = self.random.randrange(4)
        self.message = new_id()
        self.client = Client()

    async def run(self) -> None:
        self.chat_id = await self.owner.new_chat()
        moment = self.random.choice([self.before, self.while_it_starts, self.while_it_runs])
        async with asyncio.timeout(SECONDS):
            await moment()
        assert self.client.done["status"] == "cancelled"
        stored = await self.owner.stored(self.client)
        assert (stored.status, stored.text) == (Status.CANCELLED, self.client.text)
        assert said(self.words).startswith(stored.text)

    async def before(self) -> None:
        outcome = await self.other.cancel(self.chat_id, user_message_id=self.message)
        assert outcome == Cancelling(None)
        await self.stream()
        assert self.client.names == ["start", "done"]

    async def while_it_starts(self) -> None:
        streaming = asyncio.create_task(self.stream())
        await jitter(self.random, 0.05)
        await self.cancel(user_message_id=self.message)
        await streaming

    async def while_it_runs(self) -> None:
        streaming = asyncio.create_task(self.stream())
        await self.client.has(1 + self.random.randint(0, self.words))
        targets = [{}, {"message_id": self.client.start["messageId"]}, {"user_message_id": self.message}]
        await self.cancel(**self.random.choice(targets))
        await streaming

    async def stream(self) -> None:
        generation = await self.owner.send(self.chat_id, str(self.words), message=self.message)
        await generation.run(self.client)

    async def cancel(self, **target: str) -> None:
        if self.random.random() < 0.5:
            await self.disturb()
        assert isinstance(await self.other.cancel(self.chat_id, **target), Cancelled | Cancelling)


async def run_all(schedules: list[Schedule]) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(schedule: Schedule) -> None:
        async with turns:
            await schedule.run()

    async with asyncio.TaskGroup() as group:
        for schedule in schedules:
            group.create_task(one(schedule))


async def test_no_cancel_is_lost_in_any_schedule(fleet, stores, ai, request):
    """Before, during and after registration; the subscription whole, killed, late by 200 ms, deaf."""
    async with AsyncExitStack() as stack:
        late, cut, deaf = [await stack.enter_async_context(Proxy(stores.redis_url)) for _ in range(3)]
        late.delay_seconds = 0.2
        deaf.freeze()

        async def kill() -> None:
            cut.cut()
            if "embedded" in request.node.callspec.id:  # its subscriptions are all ours
                await kill_subscriptions(stores.redis_url)

        owners = [
            (await fleet.process(), nothing),
            (await fleet.process(subscription_url=late.url), nothing),
            (await fleet.process(subscription_url=cut.url), kill),
            (await fleet.process(subscription_url=deaf.url), nothing),
        ]
        other = await fleet.process()
        seed = counts.seed()
        print("TEST_SEED", seed)
        rounds = range(seed, seed + counts.of(1000))
        await run_all([Schedule(n, owners[n % 4][0], other, owners[n % 4][1]) for n in rounds])
        async with asyncio.timeout(SECONDS):
            await ai.has_connections(0)


async def test_a_cancel_between_subscribing_and_its_acknowledgement_is_found_before_the_ai_is_called(fleet, stores, ai):
    """The window in which a message would be lost: the key is read after the server has acknowledged."""
    async with Proxy(stores.redis_url) as proxy:
        owner = await fleet.process(subscription_url=proxy.url)
        other = await fleet.process(wait_seconds=0)
        chat_id = await owner.new_chat()
        proxy.freeze()
        client, streaming = await owner.begin(chat_id, "1")
        await until(lambda: proxy.accepted)
        assert isinstance(await other.cancel(chat_id), Cancelling)
        proxy.thaw()
        await streaming
    assert client.names == ["start", "done"]
    assert client.done["status"] == "cancelled"
    assert not ai.calls


@pytest.mark.parametrize("reason", ["key", "message"])
async def test_key_and_message_each_suffice_while_the_ai_is_silent(fleet, stores, ai, reason):
    owner, other = await fleet.process(), await fleet.process()
    chat_id = await owner.new_chat()
    client, streaming = await owner.begin(chat_id, "2")
    await client.has(3)
    answer = await owner.stored(client)
    await Half(other, reason).request_cancel(answer.identity.chat_id, answer.identity.message_id)
    async with asyncio.timeout(SECONDS):
        await streaming
        await ai.calls[0].closed.wait()
    assert (client.text, client.done["status"]) == (said(2), "cancelled")


class Half:
    """Does one half of what a cancel asks of Redis; the other half is lost."""

    def __init__(self, process: Process, what: str) -> None:
        self.pipe, self.what = process.coordination.client, what

    async def request_cancel(self, chat_id: str, message_id: str) -> None:
        name = f"chat:{{{chat_id}}}:cancel:{message_id}"
        await self.pipe.run(("SET", name, "{}", "EX", 60) if self.what == "key" else ("PUBLISH", name, "{}"))


async def test_of_many_cancels_of_one_answer_each_is_told_the_same(fleet, ai):
    """Messages and polls that come while the answer is ending harm nothing."""
    owner, others = await fleet.process(), [await fleet.process() for _ in range(3)]
    chat_id = await owner.new_chat()
    neighbour, neighbour_streaming = await owner.begin(chat_id, "1", session="laptop")
    client, streaming = await owner.begin(chat_id, "3")
    await client.has(4)
    cancels = [other.cancel(chat_id, message_id=client.start["messageId"]) for other in others * counts.of(100, 10)]
    outcomes = await asyncio.gather(*cancels)
    await streaming
    assert {type(outcome) for outcome in outcomes} == {Cancelled}
    stored = await owner.stored(client)
    assert all(outcome.answer == stored for outcome in outcomes)
    assert not neighbour_streaming.done()
    async with asyncio.timeout(SECONDS):
        await others[0].cancel(chat_id, "laptop")
        await neighbour_streaming
    assert neighbour.done["status"] == "cancelled"
