"""Invariant 18: limits hold within one request, however many come at once to however many processes, or twice."""

import asyncio

import pytest

from chat.adapters.redis import keys
from chat.application.ports import AdmissionRequest
from chat.domain.errors import RateLimited
from chat.domain.model import new_id
from chat.settings import LimitSettings
from tests.kit import counts
from tests.kit.ai_server import say
from tests.kit.fleet import commands
from tests.kit.proxy import Proxy
from tests.kit.world import Client

AT_ONCE = 100
PROCESSES = 4
SECONDS = 30

TOKENS_EACH = 1000 + 100
"""What a message reserves: the longest prompt and the longest answer."""


async def sent(process, chat_id: str, message: str | None = None):
    """Return the generation, or the limit that refused it."""
    try:
        return await process.send(chat_id, "1", session=new_id(), message=message)
    except RateLimited as error:
        assert error.retry_after_seconds >= 1
        return error.limit


async def burst(fleet, limits: LimitSettings, **more) -> tuple[list, list[str]]:
    """Send many messages at once through several processes: the generations begun, and why the others were not."""
    processes = [await fleet.process(limits=limits, concurrency=8, **more) for _ in range(PROCESSES)]
    for process in processes:
        process.coordination.client.trip_seconds = (
            SECONDS  # so many in one event loop, on a busy machine, are slow together
        )
    chat_ids = [await processes[0].new_chat() for _ in range(10)]
    async with asyncio.timeout(SECONDS):
        found = await asyncio.gather(
            *(sent(processes[n % PROCESSES], chat_ids[n % len(chat_ids)]) for n in range(AT_ONCE))
        )
    assert all("limits_off" not in process.telemetry.kinds() for process in processes)
    return [each for each in found if not isinstance(each, str)], [each for each in found if isinstance(each, str)]


async def run_all(generations: list) -> list[Client]:
    clients = [Client() for _ in generations]
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(each.run(client) for each, client in zip(generations, clients, strict=True)))
    return clients


async def test_of_a_hundred_at_once_as_many_run_as_may(fleet, ai):
    """Invariant 18: active answers; places that were given back are free again, and no more than those."""
    ai.default = say("x")
    for _ in range(counts.of(10)):
        fleet.user = f"user-{new_id()}"
        generations, refused = await burst(fleet, LimitSettings(8, 0, 0))
        assert (len(generations), set(refused)) == (8, {"active"})
        await run_all(generations)
        again, refused = await burst(fleet, LimitSettings(8, 0, 0))
        assert (len(again), set(refused)) == (8, {"active"})
        await run_all(again)


async def test_of_a_hundred_at_once_as_many_are_taken_as_a_minute_allows(fleet, ai):
    """Invariant 18: messages in a minute, whether their answers have ended or not."""
    ai.default = say("x")
    for _ in range(counts.of(10)):
        fleet.user = f"user-{new_id()}"
        generations, refused = await burst(fleet, LimitSettings(0, 20, 0))
        assert (len(generations), set(refused)) == (20, {"minute"})
        await run_all(generations)
        generations, refused = await burst(fleet, LimitSettings(0, 20, 0))
        assert (len(generations), set(refused)) == (0, {"minute"})


async def test_of_a_hundred_at_once_as_many_are_taken_as_there_are_tokens_for(fleet, ai, stores):
    """Invariant 18: within one request, which is let through by the last token; what was really used is what counts."""
    ai.default = say("x")
    for _ in range(counts.of(10)):
        fleet.user = f"user-{new_id()}"
        generations, refused = await burst(fleet, LimitSettings(0, 0, 5 * TOKENS_EACH + 1))
        assert (len(generations), set(refused)) == (6, {"reserved"})
        clients = await run_all(generations)
        used = sum(each.done["usage"][kind] for each in clients for kind in ("inputTokens", "outputTokens"))
        total = await commands(stores.redis_url, "HGET", keys.limit(fleet.user, "tokens"), "total")
        assert int(total) == used


@pytest.mark.parametrize(
    ("limits", "most"),
    [(LimitSettings(5, 0, 0), 5), (LimitSettings(0, 5, 0), 5), (LimitSettings(0, 0, 4 * TOKENS_EACH + 1), 5)],
)
async def test_a_command_whose_reply_was_lost_counts_once(fleet, stores, ai, limits, most):
    """Invariant 18: each is executed, cut off before its reply, and sent again."""
    ai.default = say("x")
    async with Proxy(stores.redis_url) as proxy:
        process = await fleet.process(proxy.url, subscription_url=stores.redis_url, limits=limits, concurrency=8)
        chat_id = await process.new_chat()
        outcomes = []
        for number in range(most + 2):
            await process.coordination.ping()  # only on a connection that has been in use something is tried once more
            proxy.lose_next_reply()
            outcomes.append(await sent(process, chat_id))
            assert proxy.lost == number + 1
        began = [each for each in outcomes if not isinstance(each, str)]
        assert began == outcomes[:most]
        assert "limits_off" not in process.telemetry.kinds()
        await run_all(began)


async def test_a_place_whose_return_is_told_twice_is_given_back_once(fleet, stores):
    """Invariant 18: the tokens that were used are counted once."""
    async with Proxy(stores.redis_url) as proxy:
        process = await fleet.process(proxy.url, limits=LimitSettings(1, 0, 1000))
        for number in range(counts.of(30)):
            user = new_id()
            attempt = AdmissionRequest(user, "m", "1")
            await process.limits.acquire(attempt, 100)
            proxy.lose_next_reply()
            await process.limits.release(attempt, 7, True)
            assert proxy.lost == number + 1
            assert int(await commands(stores.redis_url, "HGET", keys.limit(user, "tokens"), "total")) == 7
