"""Clusters, Sentinels and demoted masters: what dies fails over, and no answer and no cancel notices for long."""

import asyncio

import pytest
from redis.crc import key_slot

from chat.adapters.redis import keys
from chat.adapters.redis.cluster import ClusterClient, Unreachable
from chat.adapters.redis.coordination import RedisCoordination
from chat.adapters.redis.endpoints import UrlEndpoint
from chat.adapters.redis.rate_limiter import RedisRateLimiter
from chat.adapters.redis.servers import open_servers
from chat.application.cancel_answer import Cancelled
from chat.application.ports import AdmissionRequest, StreamRequest
from chat.domain.errors import RateLimited, StorageUnavailable
from chat.domain.model import new_id
from chat.settings import LimitSettings, Secret
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.redis_cluster import SHARDS, RedisCluster, RedisProcess, cluster, sentinels
from tests.kit.redis_servers import own_server
from tests.kit.waiting import until
from tests.kit.world import Client, World

# one after the other: a cluster's bus takes a port of its own choice
pytestmark = pytest.mark.xdist_group("redis_topologies")


def shard_of(chat_id: str) -> int:
    """Return which of the cluster's masters serves the keys of a chat."""
    return min(key_slot(keys.lease(chat_id, "x").encode()) // (16384 // SHARDS), SHARDS - 1)


async def answering(world: World, shard: int) -> str:
    """Return a new chat whose keys are on this shard."""
    while True:
        chat_id = await world.new_chat()
        if shard_of(chat_id) == shard:
            return chat_id


async def alive(coordination: RedisCoordination, chat_id: str, message_id: str) -> bool:
    status = await coordination.owner_status(chat_id, message_id)
    return status is not None and status.is_alive


async def cancelled(world: World, client: Client) -> bool:
    """Cancel a client's answer, and tell whether it worked; a 503 is honest, and repeated."""
    try:
        result = await world.cancel(client.start["chatId"], message_id=client.start["messageId"])
        return isinstance(result, Cancelled)
    except StorageUnavailable:
        return False


@pytest.fixture
async def three_shards():
    async with cluster() as made:
        yield made


def world_on(coordination: RedisCoordination, **more) -> World:
    return World(MemoryChats(), coordination, ScriptedAI("word ", asyncio.Event()), **more)


async def test_every_shard_is_used_and_a_master_that_dies_fails_over_while_answers_run(three_shards: RedisCluster):
    """One answer on each shard; the first shard's master is killed. All can be cancelled, and none by accident."""
    coordination = RedisCoordination(open_servers(Secret(three_shards.url)), 7200)
    limits = RedisRateLimiter(coordination.client, coordination.flush_loop, LimitSettings(8, 60, 10**6))
    world = world_on(coordination, limits=limits)
    running = {}
    for shard in range(SHARDS):
        chat_id = await answering(world, shard)
        client, task = await world.begin(chat_id)
        await client.has(2)
        running[chat_id] = client, task
        message_id = client.start["messageId"]
        await until(lambda c=chat_id, m=message_id: alive(coordination, c, m), "the lease is there")
        assert await three_shards.masters[shard].command("EXISTS", keys.lease(chat_id, message_id)) == 1
        await until(lambda c=chat_id, m=message_id: coordination.read(c, m, 0), "the log is there")
    assert await coordination.count_active() == SHARDS

    three_shards.masters[0].kill()
    chats = list(running)
    for chat_id in chats[1:]:  # the other shards are served all the time
        await until(lambda c=chat_id: alive(coordination, c, running[c][0].start["messageId"]), "others are served")
    await until(lambda: is_master(three_shards.replicas[0]), "the replica has taken over", seconds=30)
    assert not any(task.done() for _, task in running.values())
    for chat_id in chats:
        client, task = running[chat_id]
        await until(lambda c=client: cancelled(world, c), "the cancel works", seconds=30)
        await task
        assert client.done["status"] == "cancelled"
        others = [other for other, (_, one) in running.items() if not one.done()]
        assert others == chats[chats.index(chat_id) + 1 :], "no other was cancelled"
    whole = await coordination.read(chats[0], running[chats[0]][0].start["messageId"], 0)
    assert whole is not None and whole.ended, "the log is whole on the new master"
    await coordination.close()


async def is_master(node: RedisProcess) -> bool:
    return (await node.info("replication"))["role"] == "master"


async def test_a_shard_without_a_replica_that_dies_takes_nothing_from_the_others(three_shards: RedisCluster):
    client = ClusterClient(UrlEndpoint(Secret(three_shards.url)))
    names = {
        shard: next(n for n in map(str, range(1000)) if key_slot(n.encode()) // 5461 == shard) for shard in range(2)
    }
    assert await client.run(*(("SET", names[shard], shard) for shard in (0, 1))) == [b"OK", b"OK"]
    three_shards.replicas[0].kill()
    three_shards.masters[0].kill()

    async def only_the_other() -> bool:
        lost, kept = await client.run(("GET", names[0]), ("GET", names[1]))
        return isinstance(lost, Unreachable) and kept == b"1"

    await until(only_the_other, "the other shard is served", seconds=30)
    await client.close()


async def limits_hold(url: str) -> None:
    coordination = RedisCoordination(open_servers(Secret(url)), 7200)
    limits = RedisRateLimiter(coordination.client, coordination.flush_loop, LimitSettings(1, 0, 0, 1))
    user = new_id()
    first, second = AdmissionRequest(user, "a", "1"), AdmissionRequest(user, "b", "1")
    await limits.acquire(first, 0)
    with pytest.raises(RateLimited):
        await limits.acquire(second, 0)
    await limits.release(first, 0, True)
    with pytest.raises(RateLimited):
        await limits.open_stream(StreamRequest(user, "watcher"))
    await limits.close_stream(StreamRequest(user, first.name))
    await limits.acquire(second, 0)
    await limits.release(second, 0, True)
    await limits.close_stream(StreamRequest(user, second.name))
    await coordination.close()


async def test_a_slot_that_is_moving_is_followed_and_limits_hold(three_shards: RedisCluster):
    """MOVED and ASK: the map is read again, and the command sent again."""
    client = ClusterClient(UrlEndpoint(Secret(three_shards.url)))
    source, target = three_shards.masters[0], three_shards.masters[1]
    name = next(n for n in map(str, range(1000)) if key_slot(n.encode()) < 5000)
    slot = str(key_slot(name.encode()))
    assert await client.run(("SET", name, "before")) == [b"OK"]
    ids = [(await node.command("CLUSTER", "MYID")).decode() for node in (source, target)]
    await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    await source.command("MIGRATE", "127.0.0.1", str(target.port), name, "0", "1000")
    assert await client.run(("GET", name)) == [b"before"]  # ASK
    for node in (target, source, three_shards.masters[2]):
        await node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    assert await client.run(("GET", name), ("SET", name, "after")) == [b"before", b"OK"]  # MOVED
    await client.close()
    await limits_hold(three_shards.url)


async def test_the_master_that_sentinels_name_is_followed_when_it_dies():
    async with sentinels() as (url, master, replica):
        coordination = RedisCoordination(open_servers(Secret(url)), 7200)
        world = world_on(coordination)
        chat_id = await world.new_chat()
        client, task = await world.begin(chat_id)
        await client.has(2)
        assert await master.command("EXISTS", keys.lease(chat_id, client.start["messageId"])) == 1
        master.kill()
        await until(lambda: is_master(replica), "the replica has taken over", seconds=30)
        await until(lambda: alive(coordination, chat_id, client.start["messageId"]), "the lease is there", seconds=30)
        await until(lambda: cancelled(world, client), "the cancel works", seconds=30)
        await task
        assert client.done["status"] == "cancelled"
        await coordination.close()


async def test_a_demoted_master_counts_as_unavailable_and_not_as_a_refusal():
    with own_server() as server, own_server() as other:
        from redis.asyncio import Redis

        coordination = RedisCoordination(open_servers(Secret(server.url)), 7200)
        async with Redis.from_url(server.url) as admin:
            world = world_on(coordination)
            chat_id = await world.new_chat()
            client, task = await world.begin(chat_id)
            await client.has(2)
            await admin.replicaof("127.0.0.1", str(other.port))
            with pytest.raises(StorageUnavailable):
                await coordination.request_cancel(chat_id, client.start["messageId"], "phone")
            await admin.replicaof("NO", "ONE")
            await until(lambda: cancelled(world, client), "the cancel works", seconds=30)
            await task
            assert client.done["status"] == "cancelled"
        await coordination.close()
