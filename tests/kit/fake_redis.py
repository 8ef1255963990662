"""fakeredis in the place of a server: redis-py's connection against a server in memory."""

from collections.abc import Callable
from typing import Any

from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection

from chat.adapters.redis.connection import RedisConnection, WritesAtOnce
from chat.adapters.redis.pipelined_client import PipelinedClient


class FakeChannel(WritesAtOnce, FakeAsyncRedisConnection):
    """A connection to a server in memory."""

    def abort(self) -> None:
        self._sock = self._reader = self._writer = None


class FakeServers:
    """Makes clients of one server in memory."""

    def __init__(self) -> None:
        self._server = FakeServer(version=(7,), server_type="valkey")

    async def channel(self) -> Any:
        return FakeChannel(server=self._server, protocol=2, driver_info=None)

    def refused(self) -> None:
        """There is no login."""

    def client(self, on_unavailable: Callable[[], None]) -> PipelinedClient:
        return PipelinedClient(self.subscriber, on_unavailable)

    def subscriber(self) -> RedisConnection:
        return RedisConnection(self)
