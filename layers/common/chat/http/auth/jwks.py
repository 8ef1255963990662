"""The public keys of an issuer, fetched by URL and kept: one fetch at a time, seldom, and usable without the issuer.

    keys younger than FRESH_SECONDS             are used as they are
    older, or a key is asked for that is not    are fetched again first, unless that was tried RETRY_SECONDS ago
        among them
    fetch failed, or brought no usable key      the keys at hand stay in use until USABLE_SECONDS after their own fetch
    no keys at hand                             StorageUnavailable (503): to call a token bad (401) that nobody could
                                                check would make clients throw good tokens away

A fetch runs within a request, which waits for it a bounded time; no task outlives its invocation. Ages are taken from
the wall clock, because others stand still while a Lambda process is frozen.

Source: RFC 7517 (JSON Web Keys).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt

from chat.domain.errors import StorageUnavailable
from chat.settings import SettingsError

FRESH_SECONDS = 600
USABLE_SECONDS = 86_400
RETRY_SECONDS = 30
FIRST_RETRY_SECONDS = 1
"""While there are no keys at all."""
MAX_BYTES = 262_144
MAX_KEYS = 200
"""More than any issuer has; each costs some 0.1 ms to read."""

_KeyTable = dict[tuple[str | None, str], jwt.PyJWK]
"""Keys by their id and the algorithm that they are used with."""

logger = logging.getLogger(__name__)


class UnusableKeySet(Exception):
    """The issuer answered with something that holds no key for us."""


class Jwks:
    """An issuer's keys for checking signatures."""

    timeout_seconds = 2.0
    """For a whole fetch."""

    def __init__(
        self,
        url: str,
        algorithms: tuple[str, ...],
        new_client: Callable[[], httpx.AsyncClient] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise SettingsError("CHAT_JWT_JWKS_URL is not a URL") from None
        self._algorithms = algorithms
        self._new_client = new_client or httpx.AsyncClient
        self._clock = clock
        self._keys: _KeyTable = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key with this id, without an id the only one there is for the algorithm; None if there is none.

        Raises:
            StorageUnavailable: the issuer cannot be reached, and nothing is left of what it once said.
        """
        self._forget_old_keys()
        key = self._choose(kid, algorithm)
        if key and (self._is_within(FRESH_SECONDS, self._fetched_at) or self._fetching.locked()):
            return key
        async with self._fetching:
            if not self._is_within(RETRY_SECONDS if self._keys else FIRST_RETRY_SECONDS, self._tried_at):
                await self._fetch()
        if not self._keys:
            raise StorageUnavailable("Token signing keys are temporarily unavailable. Try again shortly.")
        return self._choose(kid, algorithm)

    def _is_within(self, seconds: float, moment: float) -> bool:
        """Tell whether `moment` is at most that long ago; one in the future is not: the clock was set back."""
        return 0 <= self._clock() - moment < seconds

    def _forget_old_keys(self) -> None:
        if not self._is_within(USABLE_SECONDS, self._fetched_at):
            self._keys = {}

    def _choose(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, name), key in self._keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self) -> None:
        """Replace the keys if that succeeds. A cancelled fetch does not count as tried: the next in line fetches."""
        try:
            async with asyncio.timeout(self.timeout_seconds), self._new_client() as client:
                body = await _download(client, await self._find_url(client))
                # In a thread, because a hundred keys keep all streams waiting for some milliseconds.
                self._keys = await asyncio.to_thread(read_keys, body, self._algorithms)
            self._fetched_at = self._clock()
        except (OSError, httpx.HTTPError, UnusableKeySet) as error:
            logger.warning("the issuer's keys could not be fetched: %s", type(error).__name__)
        self._tried_at = self._clock()

    async def _find_url(self, client: httpx.AsyncClient) -> httpx.URL:
        return self._url


class DiscoveredJwks(Jwks):
    """The keys of an issuer who says where they are.

    Source: OpenID Connect Discovery 1.0, sections 4.1 and 4.3.
    """

    def __init__(
        self,
        issuer: str,
        algorithms: tuple[str, ...],
        new_client: Callable[[], httpx.AsyncClient] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(issuer.rstrip("/") + "/.well-known/openid-configuration", algorithms, new_client, clock)
        self._issuer = issuer

    async def _find_url(self, client: httpx.AsyncClient) -> httpx.URL:
        """Ask each time, because the address may change as the keys do."""
        body = await _download(client, self._url)
        try:
            found = json.loads(body)
            if found["issuer"] != self._issuer:
                logger.warning("the issuer's configuration is that of another issuer")
                raise UnusableKeySet
            url = httpx.URL(found["jwks_uri"])
        except (ValueError, LookupError, TypeError, RecursionError, httpx.InvalidURL):
            raise UnusableKeySet from None
        if not url.host or url.scheme not in ("https", self._url.scheme):  # never from https down to http
            raise UnusableKeySet
        return url


async def _download(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    """Return the answer's body; one that is compressed or a redirect is not accepted."""
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
        if response.status_code != 200:
            raise UnusableKeySet
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MAX_BYTES:
                raise UnusableKeySet
    return bytes(body)


def read_keys(body: bytes, algorithms: tuple[str, ...]) -> _KeyTable:
    """Return the public keys for signatures with these algorithms; others are passed over.

    Raises:
        UnusableKeySet: there is none.
    """
    try:
        found = json.loads(body)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UnusableKeySet from None
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise UnusableKeySet
    keys: _KeyTable = {}
    for data in found:
        for algorithm in algorithms:
            if isinstance(data, dict) and (key := _read_key(data, algorithm)):
                kid = data.get("kid")
                keys.setdefault((kid if isinstance(kid, str) else None, algorithm), key)
    if not keys:
        raise UnusableKeySet
    return keys


def _read_key(data: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    try:
        if not _may_check(data, algorithm):
            return None
        key = jwt.PyJWK(data, algorithm)
        complaint = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key))
    # Foreign data in a library's hands: whatever it makes of a broken key, that key is unusable and the others are not.
    except Exception:
        return None
    return None if complaint else key


def _may_check(data: dict[str, Any], algorithm: str) -> bool:
    """Tell whether the issuer means this key for such signatures; a symmetric or a private one is no public key."""
    is_public = data.get("kty") != "oct" and "d" not in data
    is_for_signatures = data.get("use", "sig") == "sig" and "verify" in data.get("key_ops", ["verify"])
    return is_public and is_for_signatures and data.get("alg", algorithm) == algorithm
