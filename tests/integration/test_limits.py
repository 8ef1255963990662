"""Limits per user: everything or nothing is taken, and repeating it changes nothing (invariant 18)."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from chat.adapters.redis import keys
from chat.adapters.redis.connection import opener
from chat.adapters.redis.limits import RedisLimits
from chat.adapters.redis.pipe import Pipe
from chat.errors import RateLimited
from chat.model import new_id
from chat.settings import LimitSettings, Secret


@asynccontextmanager
async def limited(url: str, active: int = 0, minute: int = 0, tokens: int = 0, away: list | None = None):
    pipe = Pipe(opener(Secret(url)))
    note = (lambda: away.append(1)) if away is not None else (lambda: None)
    try:
        yield RedisLimits(pipe, LimitSettings(active, minute, tokens), note)
    finally:
        await pipe.close()


async def admitted(limits: RedisLimits, user: str, member: str, tokens: int = 0) -> bool:
    try:
        await limits.admit(user, member, 60, tokens)
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
        await limits.settle(user, "a", 0)
        assert await admitted(limits, user, "b")


async def test_the_same_message_takes_one_place_and_counts_once(redis_url):
    async with limited(redis_url, active=1, minute=2) as limits:
        user = new_id()
        for _ in range(5):
            assert await admitted(limits, user, "a")
        await limits.settle(user, "a", 0)
        assert await admitted(limits, user, "b")
        await limits.settle(user, "b", 0)
        assert not await admitted(limits, user, "c")
        assert await admitted(limits, user, "a")


async def test_users_do_not_count_for_each_other(redis_url):
    async with limited(redis_url, active=1, minute=1, tokens=1) as limits:
        for user in (new_id(), new_id()):
            assert await admitted(limits, user, "a", 5)


async def test_messages_per_minute_say_when_to_come_back(redis_url):
    async with limited(redis_url, minute=3) as limits:
        user = new_id()
        assert sum(await asyncio.gather(*(admitted(limits, user, f"m{n}") for n in range(100)))) == 3
        with pytest.raises(RateLimited) as caught:
            await limits.admit(user, "late", 60, 0)
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
            await limits.settle(user, f"m{n}", 10)
            await limits.settle(user, f"m{n}", 10)  # repeated
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
        await limits.settle(user, "a", 50)  # reserved yesterday
        assert int(await client.hget(key, "total")) == 1
        await client.aclose()


async def test_places_of_the_dead_expire(redis_url):
    async with limited(redis_url, active=1) as limits:
        user = new_id()
        await limits.admit(user, "dead", 0, 0)
        assert await admitted(limits, user, "b")


async def test_every_key_expires(redis_url):
    async with limited(redis_url, active=1, minute=1, tokens=1) as limits:
        user = new_id()
        await limits.admit(user, "a", 60, 1)
        client = Redis.from_url(redis_url)
        for what, most in (("active", 7200), ("minute", 120), ("tokens", 172_800)):
            assert 0 < await client.ttl(keys.limit(user, what)) <= most
        await client.aclose()


async def test_zero_is_off_and_asks_nothing():
    async with limited("redis://127.0.0.1:1") as limits:
        for n in range(200):
            await limits.admit("user", f"m{n}", 60, 10**9)
            await limits.settle("user", f"m{n}", 10**9)


async def test_with_redis_away_everything_passes_and_that_is_noted():
    away: list = []
    async with limited("redis://127.0.0.1:1", active=1, minute=1, tokens=1, away=away) as limits:
        for n in range(3):
            assert await admitted(limits, "user", f"m{n}", 5)
        await limits.settle("user", "m0", 5)
    assert len(away) == 3
