"""Opens single connections to Redis or Valkey with bounded waits, and names the errors that mean "away".

redis-py's pool, retries and pub/sub loop are not used: a pool opens a connection for every pipeline under way, and a
frozen server shows as endless silence on a subscription. What is used is its connection: URL, TLS, login, protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, RedisError

from chat.settings import Secret

AWAY = (RedisError, OSError, TimeoutError)
"""Raised by a connection when the server refuses, fails or keeps silent; includes a refused login."""

IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process cannot tell a dead socket from a
living one without waiting for it."""

Open = Callable[[], Connection]
AskAgain = Callable[[], str | None]


class RedisAway(Exception):
    """Redis did not answer in time, or at all."""


class Login(CredentialProvider):
    """The login of a URL; after a refusal it asks once more for the URL, because its secret may have been rotated."""

    def __init__(self, url: Secret, ask_again: AskAgain) -> None:
        self._url = url
        self._ask_again = ask_again
        self._was_refused = False

    def refuse(self) -> None:
        """Hear that the server refused the login; the next connection uses a new one if there is one."""
        self._was_refused = True

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        if self._was_refused:
            self._was_refused = False
            found = await asyncio.to_thread(self._ask_again)
            self._url = Secret(found) if found else self._url
        parts = parse_url(self._url.reveal())
        username, password = parts.get("username"), parts.get("password") or ""
        return (username, password) if username else (password,)


def hear(connection: Connection, error: BaseException) -> None:
    """Tell the connection's login if `error` is the server's refusal of it."""
    login = connection.credential_provider
    if isinstance(error, AuthenticationError) and isinstance(login, Login):
        login.refuse()


def opener(url: Secret, ask_again: AskAgain | None = None) -> Open:
    """Return a function that makes unconnected connections to `url`.

    When a login is refused, `ask_again` may know a new URL, whose login the next connection uses. It may block.

    RESP2 without `HELLO` and without `CLIENT SETINFO`: opening costs one round trip less, and only a login is sent.
    """
    login = Login(url, ask_again) if ask_again is not None else None

    def open_connection() -> Connection:
        options = cast("dict[str, Any]", dict(parse_url(url.reveal())))
        if login is not None and (options.pop("password", None), options.pop("username", None)) != (None, None):
            options["credential_provider"] = login
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
