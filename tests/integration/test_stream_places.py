"""Limits of open streams, new chats and waiting cancels, on fakeredis and on every real server, and with Redis away."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from chat.adapters.redis import keys
from chat.adapters.redis.flush_loop import FlushLoop
from chat.adapters.redis.rate_limiter import RedisRateLimiter
from chat.adapters.redis.servers import RedisServers, open_servers
from chat.application.admission import Admission, StreamPlace
from chat.application.ports import AdmissionRequest
from chat.domain.errors import RateLimited
from chat.domain.model import new_id
from chat.settings import MAX_PENDING_CANCELS, LimitSettings, Secret
from tests.kit.fake_redis import FakeServers
from tests.kit.proxy import Proxy
from tests.kit.redis_servers import EVERY_REDIS, own_server, redis_address
from tests.kit.waiting import until

AWAY = "redis://127.0.0.1:1"


@pytest.fixture(params=["fakeredis", *EVERY_REDIS])
def servers(request: pytest.FixtureRequest) -> RedisServers:
    """Each Redis that is at hand, one after the other."""
    return FakeServers() if request.param == "fakeredis" else open_servers(Secret(redis_address(request)))


@asynccontextmanager
async def process(servers: RedisServers, streams: int = 0, active: int = 0, place_seconds: float = 30, chats: int = 0):
    client = servers.client(lambda: None)
    limits = LimitSettings(active, 0, 0, streams, chats, MAX_PENDING_CANCELS)
    try:
        yield RedisRateLimiter(client, FlushLoop(client), limits, place_seconds=place_seconds)
    finally:
        await client.close()


async def opened(limiter: RedisRateLimiter, user: str) -> StreamPlace | None:
    """Open a stream; None when it is refused."""
    place = StreamPlace(limiter, user)
    try:
        await place.open()
    except RateLimited as error:
        assert (error.limit, error.retry_after_seconds > 0) == ("streams", True)
        return None
    return place


async def known(servers: RedisServers, user: str) -> dict[bytes, float]:
    """Return the places that Redis keeps, and until when."""
    client = servers.client(lambda: None)
    (found,) = await client.run(("ZRANGE", keys.limit(user, "streams"), 0, -1, "WITHSCORES"))
    await client.close()
    return dict(zip(found[::2], map(float, found[1::2]), strict=True))


async def test_a_hundred_at_once_take_exactly_the_places_there_are(servers):
    async with process(servers, 24) as one, process(servers, 24) as other:
        user = new_id()
        asked = await asyncio.gather(*(opened((one, other)[n % 2], user) for n in range(100)))
        assert len([place for place in asked if place]) == 24
        assert await opened(one, new_id())


async def test_a_place_given_back_is_free_again(servers):
    async with process(servers, 1) as one, process(servers, 1) as other:
        user = new_id()
        place = await opened(one, user)
        assert place
        assert await opened(other, user) is None
        await place.close()
        await place.close()
        assert await opened(other, user)


async def test_an_attempts_own_stream_counts_until_it_is_closed_and_not_only_while_it_generates(servers):
    async with process(servers, 2, active=9) as limits:
        user = new_id()
        admission = Admission(limits, AdmissionRequest(user, "message", "name"))
        await admission.acquire(0)
        watcher = await opened(limits, user)
        assert watcher
        assert await opened(limits, user) is None
        await admission.release(0)
        assert await opened(limits, user) is None
        await admission.stream.close()
        assert await opened(limits, user)


async def test_a_message_sent_again_and_again_takes_a_place_each_time(servers):
    async with process(servers, 3, active=1) as limits:
        user = new_id()
        for number in range(3):
            await Admission(limits, AdmissionRequest(user, "message", str(number))).acquire(0)
        with pytest.raises(RateLimited) as caught:
            await Admission(limits, AdmissionRequest(user, "message", "more")).acquire(0)
        assert caught.value.limit == "streams"
        assert await opened(limits, user) is None


async def test_what_the_number_of_answers_refuses_takes_no_place(servers):
    async with process(servers, 2, active=1) as limits:
        user = new_id()
        await Admission(limits, AdmissionRequest(user, "one", "1")).acquire(0)
        for number in range(5):
            with pytest.raises(RateLimited):
                await Admission(limits, AdmissionRequest(user, "other", str(number))).acquire(0)
        assert await opened(limits, user)


async def test_places_of_the_living_are_renewed_and_those_of_the_dead_expire(servers):
    async with process(servers, 2, place_seconds=0) as dead, process(servers, 2, place_seconds=3) as living:
        user = new_id()
        place, _ = await opened(living, user), await opened(dead, user)
        first = max((await known(servers, user)).values())
        await until(lambda: _later(servers, user, first))
        assert await opened(living, user)
        await place.close()


async def _later(servers: RedisServers, user: str, moment: float) -> bool:
    return max((await known(servers, user)).values()) > moment


async def test_every_place_expires(servers):
    async with process(servers, 1) as limits:
        user = new_id()
        await opened(limits, user)
        client = servers.client(lambda: None)
        (left,) = await client.run(("TTL", keys.limit(user, "streams")))
        assert 0 < left <= 7200
        await client.close()


async def test_zero_is_off_and_asks_nothing():
    async with process(open_servers(Secret(AWAY)), 0) as limits:
        for _ in range(200):
            assert await opened(limits, "user")


async def test_with_redis_away_a_process_bounds_them_itself():
    async with process(open_servers(Secret(AWAY)), 3, active=9) as limits:
        places = [await opened(limits, "user") for _ in range(3)]
        assert all(places)
        assert await opened(limits, "user") is None
        with pytest.raises(RateLimited):
            await limits.acquire(AdmissionRequest("user", "message", "name"), 0)
        assert await opened(limits, "other")
        await places[0].close()
        admission = Admission(limits, AdmissionRequest("user", "message", "name"))
        await admission.acquire(0)
        assert await opened(limits, "user") is None
        await admission.stream.close()
        assert await opened(limits, "user")


async def test_streams_opened_in_an_outage_count_when_redis_is_back(embedded_redis):
    async with Proxy(embedded_redis) as proxy, process(open_servers(Secret(proxy.url)), 2, place_seconds=3) as limits:
        user, servers = new_id(), open_servers(Secret(embedded_redis))
        proxy.refuse()
        places = [await opened(limits, user) for _ in range(2)]
        assert all(places)
        proxy.accept()

        async def both_count() -> bool:
            return len(await known(servers, user)) == 2

        await until(both_count)
        async with process(servers, 2, place_seconds=3) as other:
            assert await opened(other, user) is None
        for place in places:
            await place.close()
        await until(lambda: _none(servers, user))


async def _none(servers: RedisServers, user: str) -> bool:
    return not await known(servers, user)


async def test_streams_that_redis_forgot_are_counted_again():
    with own_server() as server:
        servers = open_servers(Secret(server.url))
        async with process(servers, 2, active=1, place_seconds=3) as limits:
            user = new_id()
            admission = Admission(limits, AdmissionRequest(user, "message", "name"))
            await admission.acquire(0)
            await opened(limits, user)
            client = servers.client(lambda: None)
            await client.run(("FLUSHALL",))

            async def all_count() -> bool:
                (slots,) = await client.run(("ZCARD", keys.limit(user, "active")))
                return (len(await known(servers, user)), slots) == (2, 1)

            await until(all_count)
            await client.close()


async def test_a_stream_whose_client_left_before_redis_answered_gives_its_place_back(embedded_redis):
    servers = open_servers(Secret(embedded_redis))
    async with Proxy(embedded_redis) as proxy, process(open_servers(Secret(proxy.url)), 1) as limits:
        user = new_id()
        await (await opened(limits, user)).close()
        proxy.freeze()
        opening = asyncio.create_task(StreamPlace(limits, user).open())
        await until(lambda: limits._places)
        opening.cancel()
        proxy.thaw()
        await asyncio.wait([opening])
        assert opening.cancelled()
        await until(lambda: _none(servers, user))


async def test_nothing_runs_in_the_background_when_no_stream_is_open(embedded_redis):
    async with process(open_servers(Secret(embedded_redis)), 1) as limits:
        user, before = new_id(), asyncio.all_tasks()
        place = await opened(limits, user)
        assert await opened(limits, user) is None
        assert asyncio.all_tasks() != before
        await place.close()
        assert asyncio.all_tasks() == before


async def test_of_a_hundred_new_chats_at_once_as_many_are_made_as_a_minute_allows(servers):
    async with process(servers, chats=60) as one, process(servers, chats=60) as other:
        user = new_id()
        asked = [(one, other)[n % 2].count_chat(user, str(n)) for n in range(100)]
        refused = [error for error in await asyncio.gather(*asked, return_exceptions=True) if error]
        assert {(type(error), error.limit) for error in refused} == {(RateLimited, "chats")}
        assert len(refused) == 40
        assert all(1 <= error.retry_after_seconds <= 60 for error in refused)
        await one.count_chat(new_id(), "another user's")


async def test_a_chat_that_is_made_again_with_the_same_key_counts_once(servers):
    async with process(servers, chats=2) as limits:
        user = new_id()
        for _ in range(9):
            await limits.count_chat(user, "key")
        await limits.count_chat(user, "other")
        await limits.count_chat(user, "key")
        with pytest.raises(RateLimited):
            await limits.count_chat(user, "third")


async def test_cancels_that_wait_for_their_messages_are_limited(servers):
    async with process(servers) as limits:
        user = new_id()
        for _ in range(2):
            for number in range(MAX_PENDING_CANCELS):
                await limits.count_pending_cancel(user, str(number))
        with pytest.raises(RateLimited) as caught:
            await limits.count_pending_cancel(user, "more")
        assert (caught.value.limit, 1 <= caught.value.retry_after_seconds <= 60) == ("cancels", True)
        await limits.count_pending_cancel(new_id(), "another user's")


async def test_with_redis_away_chats_are_made():
    async with process(open_servers(Secret(AWAY)), chats=1) as limits:
        for number in range(9):
            await limits.count_chat("user", str(number))
