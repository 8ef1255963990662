"""A password of Redis that is rotated while a process runs."""

import asyncio

import pytest
from redis.asyncio import Redis

from chat.adapters.redis.coordination import RedisCoordination
from chat.adapters.redis.servers import open_servers
from chat.domain.answer import Answer
from chat.domain.errors import StorageUnavailable
from chat.domain.model import AnswerIds, new_id
from chat.settings import Secret
from tests.kit.redis_servers import own_server
from tests.kit.waiting import until


async def answers(coordination: RedisCoordination) -> bool:
    try:
        await coordination.ping()
    except StorageUnavailable:
        return False
    return True


@pytest.mark.parametrize("user", ["", "default"])
async def test_a_refused_login_is_read_anew_once_for_both_connections(user):
    asked: list[str] = []
    with own_server() as server:
        client = Redis.from_url(server.url)
        await client.config_set("requirepass", "old")

        def url(password: str) -> str:
            return f"redis://{user}:{password}@127.0.0.1:{server.port}/0"

        def ask_again() -> str:
            asked.append("REDIS_URL")
            return url("new")

        coordination = RedisCoordination(open_servers(Secret(url("old")), ask_again), 7200)
        await coordination.ping()
        assert not asked
        await client.config_set("requirepass", "new")
        server_side = Redis.from_url(url("new"))
        await server_side.client_kill_filter(skipme=True, _type="normal")
        await until(lambda: answers(coordination))
        assert asked == ["REDIS_URL"]
        cancelled = asyncio.Event()
        answer = Answer(AnswerIds(new_id(), new_id(), new_id(), "phone", "model"))
        answer.begin()
        line = coordination.claim(answer, "token", "user", cancelled.set)
        await line.register(False)
        assert await server_side.pubsub_channels() != []
        await line.close()
        await coordination.close()
        await client.aclose()
        await server_side.aclose()


@pytest.mark.parametrize("found", ["no address", "redis://h/zero", "redis://h:port/0", "redis://h/0?unknown=1"])
async def test_a_secret_that_has_become_unusable_leaves_nobody_waiting(found):
    with own_server() as server:
        client = Redis.from_url(server.url)
        await client.config_set("requirepass", "new")
        servers = open_servers(Secret(f"redis://:old@127.0.0.1:{server.port}/0"), lambda: found)
        coordination = RedisCoordination(servers, 7200)
        assert not await answers(coordination)
        for _ in range(2):
            await until(lambda: not coordination.client.is_unavailable)
            asked = [asyncio.create_task(answers(coordination))]
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the first is under way, the second waits for the next round trip
            asked.append(asyncio.create_task(answers(coordination)))
            async with asyncio.timeout(10):
                assert await asyncio.gather(*asked) == [False, False]
        await coordination.close()
        await client.aclose()
