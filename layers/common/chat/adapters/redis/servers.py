"""Opens what REDIS_URL names: one server, the master that Sentinels name, or a cluster. Nothing connects yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from chat.adapters.redis.cluster import AnyNodeEndpoint, ClusterClient
from chat.adapters.redis.connection import Command, RedisConnection, Replies
from chat.adapters.redis.endpoints import RefreshUrl, UrlEndpoint
from chat.adapters.redis.pipelined_client import PipelinedClient
from chat.settings import Secret


class CommandClient(Protocol):
    """Runs commands in shared round trips. Commands must be safe to repeat."""

    @property
    def is_unavailable(self) -> bool:
        """Whether the last attempt failed and the next is not due yet."""
        ...

    async def run(self, *commands: Command) -> Replies:
        """Return a reply for each; a refused command's reply is its `ResponseError`.

        Raises:
            RedisUnavailable: no answer within the limit; any of the commands may have been executed.
        """
        ...

    async def close(self) -> None:
        """Close the connections; callers that still wait are told that Redis is unavailable."""
        ...


class RedisServers(Protocol):
    """Makes clients and connections with one login."""

    def client(self, on_unavailable: Callable[[], None]) -> CommandClient:
        """Return a new client; `on_unavailable` hears of each failed attempt."""
        ...

    def subscriber(self) -> RedisConnection:
        """Return a new connection for a subscription."""
        ...


class OneServer:
    """One server, or the master that Sentinels name."""

    def __init__(self, endpoint: UrlEndpoint) -> None:
        self._endpoint = endpoint

    def client(self, on_unavailable: Callable[[], None]) -> CommandClient:
        return PipelinedClient(self.subscriber, on_unavailable)

    def subscriber(self) -> RedisConnection:
        return RedisConnection(self._endpoint)


class Cluster:
    """A cluster. Clients and subscriptions share what is known of its nodes."""

    def __init__(self, endpoint: UrlEndpoint) -> None:
        self._endpoint = endpoint
        self._clients: Sequence[ClusterClient] = ()

    def client(self, on_unavailable: Callable[[], None]) -> CommandClient:
        client = ClusterClient(self._endpoint, on_unavailable)
        self._clients = (*self._clients, client)
        return client

    def subscriber(self) -> RedisConnection:
        cluster = self._clients[0] if self._clients else ClusterClient(self._endpoint)
        return RedisConnection(AnyNodeEndpoint(cluster))


def open_servers(url: Secret, refresh_url: RefreshUrl | None = None) -> RedisServers:
    """Return what `url` names. When a login is refused, `refresh_url` may know a new URL; it may block.

    Raises:
        SettingsError: the URL asks for something that is not known here.
    """
    endpoint = UrlEndpoint(url, refresh_url)
    return Cluster(endpoint) if endpoint.address.is_cluster else OneServer(endpoint)
