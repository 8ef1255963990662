"""Opens single connections to Redis or Valkey with bounded waits, and names the errors that mean "away".

redis-py's pool, retries and pub/sub loop are not used: a pool opens a connection for every pipeline under way, and a
frozen server shows as endless silence on a subscription. What is used is its connection: URL, TLS, login, protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chat.settings import Secret

AWAY = (RedisError, OSError, TimeoutError)
"""Raised by a connection when the server refuses, fails or keeps silent; includes a refused login."""

IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process cannot tell a dead socket from a
living one without waiting for it."""

Open = Callable[[], Connection]


class RedisAway(Exception):
    """Redis did not answer in time, or at all."""


def opener(url: Secret) -> Open:
    """Return a function that makes unconnected connections to `url`.

    RESP2 without `HELLO` and without `CLIENT SETINFO`: opening costs one round trip less, and only a login is sent.
    """

    def open_connection() -> Connection:
        options = cast("dict[str, Any]", dict(parse_url(url.reveal())))
        kind = options.pop("connection_class", Connection)
        connection = kind(
            **options,
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        return cast("Connection", connection)

    return open_connection
