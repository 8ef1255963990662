"""Limits per user: everything or nothing is taken, and repeating it changes nothing (invariant 18)."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from chat.adapters.redis import keys
from chat.adapters.redis.flush_loop import FlushLoop
from chat.adapters.redis.rate_limiter import MAX_OWED, OWED_AT_ONCE, RedisRateLimiter
from chat.adapters.redis.servers import open_servers
from chat.application.ports import AdmissionRequest, Finish, TextDelta
from chat.domain.errors import RateLimited
from chat.domain.model import Usage, new_id
from chat.domain.prompt_window import estimate_input
from chat.settings import LimitSettings, Secret
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import NoRateLimiter
from tests.kit.fake_redis import FakeServers
from tests.kit.proxy import Proxy
from tests.kit.redis_servers import own_server
from tests.kit.waiting import until
from tests.kit.world import Client, World


@asynccontextmanager
async def limited(
    url: str, active: int = 0, minute: int = 0, tokens: int = 0, away: list | None = None, place_seconds: float = 30
):
    client = open_servers(Secret(url)).client(lambda: None)
    note = (lambda: away.append(1)) if away is not None else (lambda: None)
    try:
        yield RedisRateLimiter(client, FlushLoop(client), LimitSettings(active, minute, tokens), note, place_seconds)
    finally:
        await client.close()


async def admitted(limits: RedisRateLimiter, user: str, message: str, tokens: int = 0, attempt: str = "1") -> bool:
    try:
        await limits.acquire(AdmissionRequest(user, message, attempt), tokens)
    except RateLimited:
        return False
    return True


async def test_a_hundred_at_once_take_exactly_the_places_there_are(redis_url):
    async with limited(redis_url, active=8) as one, limited(redis_url, active=8) as other:
        user = new_id()
        asked = [admitted((one, other)[n % 2], user, f"m{n}") for n in range(100)]
        assert sum(await asyncio.gather(*asked)) == 8


async def test_a_place_given_back_is_free_again(redis_url):
    async with limited(redis_url, active=1) as limits:
        user = new_id()
        assert await admitted(limits, user, "a")
        assert not await admitted(limits, user, "b")
        await limits.release(AdmissionRequest(user, "a", "1"), 0, True)
        assert await admitted(limits, user, "b")


async def test_attempts_at_one_message_take_one_place_and_count_once(redis_url):
    async with limited(redis_url, active=1, minute=2) as limits:
        user = new_id()
        for number in range(5):
            assert await admitted(limits, user, "a", attempt=str(number))
            assert not await admitted(limits, user, "b")
        for number in range(5):
            assert not await admitted(limits, user, "b")
            await limits.release(AdmissionRequest(user, "a", str(number)), 0, has_started=number == 2)
        assert await admitted(limits, user, "b")
        await limits.release(AdmissionRequest(user, "b", "1"), 0, True)
        assert not await admitted(limits, user, "c")


async def test_an_attempt_counts_that_starts_an_answer_beside_one_that_does_not(redis_url):
    """Found by an adversarial reader: the first to come was counted for both, and took it back when it was refused."""
    async with limited(redis_url, minute=2) as limits:
        user = new_id()
        for number in range(2):
            assert await admitted(limits, user, f"m{number}", attempt="refused")
            assert await admitted(limits, user, f"m{number}", attempt="started")
            await limits.release(AdmissionRequest(user, f"m{number}", "refused"), 0, has_started=False)
            await limits.release(AdmissionRequest(user, f"m{number}", "started"), 0, has_started=True)
        assert not await admitted(limits, user, "m2")


async def test_retries_count_each_while_the_last_of_them_is_running(redis_url):
    async with limited(redis_url, minute=3) as limits:
        user = new_id()
        for number in range(2):
            assert await admitted(limits, user, "failing", attempt=str(number))
            await limits.release(AdmissionRequest(user, "failing", str(number)), 0, True)
        assert await admitted(limits, user, "failing", attempt="running")
        assert not await admitted(limits, user, "another")


async def test_what_redis_refuses_to_give_back_is_given_back_later():
    """Found by an adversarial reader: a server that had lost its replicas kept places and reservations."""
    with own_server() as server:
        async with limited(server.url, active=2, tokens=100) as limits:
            user = new_id()
            client = Redis.from_url(server.url)
            for number in range(2 * OWED_AT_ONCE):
                await limits.acquire(AdmissionRequest(user, "a", str(number)), 1)
            await client.config_set("min-replicas-to-write", 1)
            for number in range(2 * OWED_AT_ONCE):
                await limits.release(AdmissionRequest(user, "a", str(number)), 0, True)
            await client.config_set("min-replicas-to-write", 0)
            for _ in range(3):
                await admitted(limits, new_id(), "another")
            assert await client.zcard(keys.limit(user, "active")) == 0
            assert int(await client.hget(keys.limit(user, "tokens"), "total")) == 0
            await client.aclose()


async def test_an_attempt_gives_back_nothing_of_another(redis_url):
    """Found by an adversarial reader: a resend that failed gave back the running answer's place and reservation."""
    async with limited(redis_url, active=1, tokens=100) as limits:
        user = new_id()
        assert await admitted(limits, user, "a", 40)
        assert await admitted(limits, user, "a", 40, attempt="2")
        await limits.release(AdmissionRequest(user, "a", "2"), 0, False)
        assert not await admitted(limits, user, "b")
        client = Redis.from_url(redis_url)
        assert int(await client.hget(keys.limit(user, "tokens"), "total")) == 40
        await client.aclose()


async def test_a_retry_counts_again_and_an_attempt_that_started_nothing_does_not(redis_url):
    async with limited(redis_url, minute=2) as limits:
        user = new_id()
        for number in range(5):
            assert await admitted(limits, user, "replayed", attempt=str(number))
            await limits.release(AdmissionRequest(user, "replayed", str(number)), 0, False)
        for number in range(2):
            assert await admitted(limits, user, "failing", attempt=str(number))
            await limits.release(AdmissionRequest(user, "failing", str(number)), 0, True)
        assert not await admitted(limits, user, "failing", attempt="2")


async def test_what_could_not_be_given_back_is_when_redis_is_back(redis_url):
    """Found by an adversarial reader: the places were kept for 15 minutes, the reservations for the day."""
    async with Proxy(redis_url) as proxy, limited(proxy.url, active=2, minute=9, tokens=100) as limits:
        user = new_id()
        assert await admitted(limits, user, "a", 40)
        assert await admitted(limits, user, "b", 40)
        proxy.refuse()
        await limits.release(AdmissionRequest(user, "a", "1"), 7, True)
        await limits.release(AdmissionRequest(user, "b", "1"), 0, False)
        proxy.accept()

        async def is_back() -> bool:
            await admitted(limits, new_id(), "another")
            client = Redis.from_url(redis_url)
            total = int(await client.hget(keys.limit(user, "tokens"), "total"))
            places = await client.zcard(keys.limit(user, "active"))
            minute = await client.zcard(keys.limit(user, "minute"))
            await client.aclose()
            return (total, places, minute) == (7, 0, 1)

        await until(is_back)
        assert await admitted(limits, user, "c", 40)


async def test_who_was_let_through_in_an_outage_owes_nothing(redis_url):
    """Found by an adversarial reader: there is room for a thousand, and who owed nothing pushed out who did."""
    async with Proxy(redis_url) as proxy, limited(proxy.url, active=2) as limits:
        user = new_id()
        assert await admitted(limits, user, "a")
        proxy.refuse()
        await limits.release(AdmissionRequest(user, "a", "1"), 0, True)
        for number in range(2 * MAX_OWED):
            assert await admitted(limits, user, "b", attempt=str(number))
            await limits.release(AdmissionRequest(user, "b", str(number)), 0, True)
        proxy.accept()
        client = Redis.from_url(redis_url)

        async def is_given_back() -> bool:
            await admitted(limits, new_id(), "another")
            return await client.zcard(keys.limit(user, "active")) == 0

        await until(is_given_back)
        await client.aclose()


async def test_users_do_not_count_for_each_other(redis_url):
    async with limited(redis_url, active=1, minute=1, tokens=1) as limits:
        for user in (new_id(), new_id()):
            assert await admitted(limits, user, "a", 5)


async def test_messages_per_minute_say_when_to_come_back(redis_url):
    async with limited(redis_url, minute=3) as limits:
        user = new_id()
        assert sum(await asyncio.gather(*(admitted(limits, user, f"m{n}") for n in range(100)))) == 3
        with pytest.raises(RateLimited) as caught:
            await limits.acquire(AdmissionRequest(user, "late", "1"), 0)
        assert 1 <= caught.value.retry_after_seconds <= 60


async def test_a_refusal_takes_nothing(redis_url):
    async with limited(redis_url, active=1, minute=10, tokens=100) as limits:
        user = new_id()
        assert await admitted(limits, user, "a", 10)
        for n in range(20):
            assert not await admitted(limits, user, f"refused{n}", 10)
        client = Redis.from_url(redis_url)
        assert await client.zcard(keys.limit(user, "minute")) == 1
        assert int(await client.hget(keys.limit(user, "tokens"), "total")) == 10
        await client.aclose()


async def test_tokens_are_reserved_at_the_start_and_replaced_by_the_ones_used(redis_url):
    async with limited(redis_url, tokens=100) as limits:
        user = new_id()
        assert sum(await asyncio.gather(*(admitted(limits, user, f"m{n}", 40) for n in range(100)))) == 3
        for n in range(100):
            await limits.release(AdmissionRequest(user, f"m{n}", "1"), 10, True)
            await limits.release(AdmissionRequest(user, f"m{n}", "1"), 10, True)  # repeated
        client = Redis.from_url(redis_url)
        assert int(await client.hget(keys.limit(user, "tokens"), "total")) == 30
        assert await admitted(limits, user, "next", 40)
        await client.aclose()


async def test_yesterdays_tokens_do_not_count(redis_url):
    async with limited(redis_url, tokens=100) as limits:
        user = new_id()
        assert await admitted(limits, user, "a", 100)
        assert not await admitted(limits, user, "b", 1)
        client = Redis.from_url(redis_url)
        key = keys.limit(user, "tokens")
        await client.hset(key, "day", int(await client.hget(key, "day")) - 1)
        assert await admitted(limits, user, "b", 1)
        await limits.release(AdmissionRequest(user, "a", "1"), 50, True)  # reserved yesterday
        assert int(await client.hget(key, "total")) == 1
        await client.aclose()


async def test_places_of_the_dead_expire(redis_url):
    async with limited(redis_url, active=1, place_seconds=0) as dead, limited(redis_url, active=1) as limits:
        user = new_id()
        await dead.acquire(AdmissionRequest(user, "a", "1"), 0)
        assert await admitted(limits, user, "b")
        await dead.release(AdmissionRequest(user, "a", "1"), 0, True)


async def test_places_of_the_living_do_not(redis_url):
    async with limited(redis_url, active=2, place_seconds=3) as limits:
        user = new_id()
        client = Redis.from_url(redis_url)

        async def kept_until() -> list[float]:
            return [until for _, until in await client.zrange(keys.limit(user, "active"), 0, -1, withscores=True)]

        before = asyncio.all_tasks()
        assert await admitted(limits, user, "a")
        assert await admitted(limits, user, "b")
        first = await kept_until()
        await until(lambda: later(kept_until, first[-1]))
        await limits.release(AdmissionRequest(user, "a", "1"), 0, True)
        await limits.release(AdmissionRequest(user, "b", "1"), 0, True)
        assert await kept_until() == []
        assert asyncio.all_tasks() == before
        await client.aclose()


async def later(kept_until, moment: float) -> bool:
    found = await kept_until()
    assert len(found) == 2
    return min(found) > moment


async def test_every_key_expires(redis_url):
    async with limited(redis_url, active=1, minute=1, tokens=1) as limits:
        user = new_id()
        await limits.acquire(AdmissionRequest(user, "a", "1"), 1)
        client = Redis.from_url(redis_url)
        for what, most in (("active", 7200), ("minute", 120), ("tokens", 172_800)):
            assert 0 < await client.ttl(keys.limit(user, what)) <= most
        await client.aclose()


async def test_zero_is_off_and_asks_nothing():
    async with limited("redis://127.0.0.1:1") as limits:
        for n in range(200):
            await limits.acquire(AdmissionRequest("user", f"m{n}", "1"), 10**9)
            await limits.release(AdmissionRequest("user", f"m{n}", "1"), 10**9, True)


async def test_with_redis_away_everything_passes_and_that_is_noted():
    away: list = []
    async with limited("redis://127.0.0.1:1", active=1, minute=1, tokens=1, away=away) as limits:
        for n in range(3):
            assert await admitted(limits, "user", f"m{n}", 5)
        await limits.release(AdmissionRequest("user", "m0", "1"), 5, True)
    assert len(away) == 3


class Spender(ScriptedAI):
    """Uses all that it is given: the whole prompt, as it is estimated, and the longest answer."""

    async def answer(self, turns, max_tokens, model):
        yield [TextDelta("x"), Usage(estimate_input(turns), max_tokens), Finish("stop")]


@pytest.mark.parametrize("history", [0, 1, 5])
async def test_ten_sends_at_once_use_no_more_than_the_limit_and_one_answer(history):
    """Found by an adversarial reader: 80,488 tokens were used of 30,000, because no reservation knew of the context."""
    servers, most, one_answer = FakeServers(), 3000, 1100
    client = servers.client(lambda: None)
    limits = RedisRateLimiter(client, FlushLoop(client), LimitSettings(0, 0, most))
    world = World(MemoryChats(), ai=Spender(), limits=limits)
    chats = [await world.new_chat() for _ in range(10)]
    world.start = replace(world.start, rate_limiter=NoRateLimiter())
    for chat_id in chats:
        for _ in range(history):
            await world.ask(chat_id, "x" * 900)
    world.start = replace(world.start, rate_limiter=limits)
    asked = await asyncio.gather(*(world.ask(chat_id, "next") for chat_id in chats), return_exceptions=True)
    answered = [each for each in asked if isinstance(each, Client)]
    used = sum(each.done["usage"][kind] for each in answered for kind in ("inputTokens", "outputTokens"))
    assert answered
    assert used <= most + one_answer
    await client.close()


async def test_a_reservation_that_is_replaced_leaves_room_at_once_and_is_settled_once(redis_url):
    async with limited(redis_url, tokens=100) as limits:
        user = new_id()
        attempt = AdmissionRequest(user, "a", "1")
        assert await admitted(limits, user, "a", 1000)
        assert not await admitted(limits, user, "b", 1000)
        limits.reserve(attempt, 30)
        client = Redis.from_url(redis_url)

        async def total() -> int:
            return int(await client.hget(keys.limit(user, "tokens"), "total"))

        await until(lambda: is_total(total, 30))
        assert await admitted(limits, user, "b", 40)
        await limits.release(attempt, 7, True)
        limits.reserve(attempt, 1000)  # too late
        await limits.release(AdmissionRequest(user, "b", "1"), 8, True)
        assert await total() == 15
        await client.aclose()


async def is_total(total, tokens: int) -> bool:
    return await total() == tokens


async def test_whoever_waits_only_for_reservations_is_not_sent_away_for_the_day(redis_url):
    async with limited(redis_url, tokens=100) as limits:
        user = new_id()
        assert await admitted(limits, user, "a", 100)
        for limit, most in (("reserved", 60), ("tokens", 86400)):
            with pytest.raises(RateLimited) as caught:
                await limits.acquire(AdmissionRequest(user, "b", "1"), 100)
            assert caught.value.limit == limit
            assert caught.value.retry_after_seconds <= most
            await limits.release(AdmissionRequest(user, "a", "1"), 100, True)
