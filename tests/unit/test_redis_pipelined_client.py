"""How long one round trip may take."""

import asyncio

import pytest

from chat.adapters.redis.connection import RedisUnavailable
from chat.adapters.redis.pipelined_client import TRIP_SECONDS, PipelinedClient
from tests.kit.virtual_time import run


class Server:
    """A connection whose other end answers each command with itself, once it may."""

    def __init__(self) -> None:
        self.is_connected = False
        self.may_answer = asyncio.Event()

    async def connect(self):
        self.is_connected = True

    def disconnect(self):
        self.is_connected = False

    async def exchange(self, commands):
        await self.may_answer.wait()
        return list(commands)


async def begun(loop):
    """Return a server, and a round trip to it that has begun."""
    server = Server()
    trip = asyncio.create_task(PipelinedClient(lambda: server).run(("PING",)))
    await loop.advance(0)
    return server, trip


def test_a_server_that_says_nothing_is_away_in_time():
    async def scenario(loop):
        server, trip = await begun(loop)
        for _ in range(9):
            await loop.advance(TRIP_SECONDS / 10)
        assert not trip.done()
        await loop.advance(TRIP_SECONDS / 5)
        with pytest.raises(RedisUnavailable):
            await trip
        assert not server.is_connected, "a reply that comes late is nobody's"

    run(scenario)


def test_a_process_that_stood_still_does_not_blame_the_server():
    """Frozen, or out of CPU, it finds the reply and the end of its patience at the same moment."""

    async def scenario(loop):
        server, trip = await begun(loop)
        await loop.advance(20 * TRIP_SECONDS)
        server.may_answer.set()
        assert await trip == [("PING",)]
        assert server.is_connected

    run(scenario)
