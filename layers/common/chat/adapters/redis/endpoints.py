"""Where REDIS_URL leads: one server, the master that Sentinels name, or the nodes of a cluster.

Sources: redis-py (`redis://`, `rediss://`, `unix://` and their options); Redis documentation, "Sentinel clients";
the form `redis+sentinel://` is Celery's and Spring's, without a standard behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from chat.adapters.redis.connection import BoundedParser, Channel, ConnectionLost, TcpChannel, TlsChannel, UnixChannel
from chat.settings import Secret, SettingsError

OPTIONS = {"db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname", "cluster", "iam", "iam_serverless"}
"""The URL's options. redis-py's others would change time-outs and retries, which belong to this adapter."""
SENTINEL_PORT = 26379
SENTINEL_SECONDS = 0.2
"""The longest that one Sentinel is waited for."""

RefreshUrl: TypeAlias = Callable[[], str | None]
"""Reads REDIS_URL again when a login is refused; may block."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says."""

    kwargs: Mapping[str, Any] = field(repr=False)
    """For redis-py's connection."""
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    """The master's name among the Sentinels."""
    is_cluster: bool = False

    @property
    def kind(self) -> type[TcpChannel] | type[TlsChannel] | type[UnixChannel]:
        """The class of channel that connects there."""
        known = self.kwargs.get("connection_class")
        if known is SSLConnection:
            return TlsChannel
        return UnixChannel if known is UnixDomainSocketConnection else TcpChannel

    def at(self, host: str, port: int) -> Address:
        """Return the same for another server: same login, same encryption."""
        return replace(self, kwargs={**self.kwargs, "host": host, "port": port})


def read_address(url: str) -> Address:
    """Take a URL apart. Options: `OPTIONS`.

    Raises:
        SettingsError: it asks for something that is not known here; the message does not show it.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - OPTIONS):
        raise SettingsError(f"REDIS_URL: the option {unknown[0]!r} is not known")
    sentinels: tuple[tuple[str, int], ...] = ()
    service = ""
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        url, sentinels, service = _without_sentinels(url)
        parts = urlsplit(url)
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    if not options.get("db", path or "0").isdecimal():
        raise SettingsError("REDIS_URL: the database is not a number")
    try:
        kwargs: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        raise SettingsError("REDIS_URL is no URL of Redis") from None
    is_cluster = kwargs.pop("cluster", "false").lower() in ("true", "1", "yes")
    kwargs |= {"protocol": 2, "driver_info": None, "socket_timeout": None, "socket_connect_timeout": None}
    if cache := kwargs.pop("iam", None):
        from chat.adapters.redis.elasticache_iam import (
            ElastiCacheIam,  # only where it is used: botocore is slow to import
        )

        is_serverless = kwargs.pop("iam_serverless", "false").lower() in ("true", "1", "yes")
        kwargs["credential_provider"] = ElastiCacheIam(kwargs.pop("username", "default"), cache, is_serverless)
        kwargs.pop("password", None)
    kwargs.pop("iam_serverless", None)
    return Address(kwargs, sentinels, service, is_cluster)


def _without_sentinels(url: str) -> tuple[str, tuple[tuple[str, int], ...], str]:
    """Return the URL of the master with a placeholder for its host, the Sentinels, and the service's name."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise SettingsError("REDIS_URL names no service: redis+sentinel://host:port,host:port/service/db")
    sentinels = []
    for one in hosts.split(","):
        host, _, port = one.rpartition(":") if ":" in one else (one, "", "")
        if not host or (port and not port.isdecimal()):
            raise SettingsError("REDIS_URL: a Sentinel is host:port")
        sentinels.append((host.strip("[]"), int(port or SENTINEL_PORT)))
    scheme = parts.scheme.removesuffix("+sentinel")
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{login}{at}master/{database or 0}{query}", tuple(sentinels), unquote(service)


class UrlEndpoint:
    """The server that a URL names; after a refused login the URL is read again, because the secret may have changed."""

    def __init__(self, url: Secret, refresh_url: RefreshUrl | None = None) -> None:
        self.address = read_address(url.reveal())
        self._refresh_url = refresh_url
        self._was_refused = False
        self._tls: tuple[Mapping[str, Any], Any] | None = None

    def refused(self) -> None:
        self._was_refused = True

    async def current_address(self) -> Address:
        """Return the address, read again if a login was refused."""
        if self._was_refused and self._refresh_url is not None:
            self._was_refused = False
            if found := await asyncio.to_thread(self._refresh_url):
                with suppress(ValueError):  # what is kept there now is no address: the refusal stays
                    self.address = read_address(found)
        return self.address

    async def channel(self) -> Channel:
        address = await self.current_address()
        return self.channel_to(await self._master(address) if address.sentinels else address)

    def channel_to(self, address: Address) -> Channel:
        """Return an unconnected channel. Channels with the same encryption share what was read from disk for it."""
        kwargs = {name: value for name, value in address.kwargs.items() if name != "connection_class"}
        channel = address.kind(**kwargs, parser_class=BoundedParser)
        if isinstance(channel, TlsChannel):
            tls = {name: value for name, value in kwargs.items() if name.startswith("ssl_")}
            if self._tls is None or self._tls[0] != tls:
                self._tls = tls, channel.ssl_context
            channel.ssl_context = self._tls[1]  # reading certificates holds up all streams for 30 ms
        return cast("Channel", channel)

    async def _master(self, address: Address) -> Address:
        from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

        limits = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(address.sentinels), sentinel_kwargs={**limits, "max_connections": 1}
        )
        try:
            host, port = await sentinel.discover_master(address.service)
        except (MasterNotFoundError, RedisError, OSError) as error:
            raise ConnectionLost("no Sentinel names a master") from error
        finally:
            for one in sentinel.sentinels:
                await one.aclose()
        return address.at(host, port)
