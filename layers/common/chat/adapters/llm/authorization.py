"""How a provider is shown who asks: a key, nothing at all, or (`bedrock_role`) a signature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

import httpx

from chat.environment import Secret

RenewKey = Callable[[str], Awaitable[Secret | None]]
"""Reads the key of this setting anew; None keeps the one that is."""


class Grant(NamedTuple):
    """What one request carries."""

    headers: Mapping[str, str]
    credentials: object
    """Equal for grants that would be refused alike. Secret."""

    def __repr__(self) -> str:
        return "Grant('***')"


class Authorization(Protocol):
    """What a provider is shown, for each request anew."""

    REFUSED: frozenset[int]
    """Statuses that may mean that the credentials are too old."""

    async def grant(self, url: httpx.URL, content: bytes) -> Grant:
        """Return what a POST of `content` (JSON) carries.

        Raises:
            AnswerFailed: there are no credentials.
        """
        ...

    async def renewed(self, refused: Grant) -> bool:
        """Tell whether there are other credentials to be tried; another answer may have fetched them meanwhile."""
        ...

    def refusal(self, status: int) -> str | None:
        """Return what an operator should do when the provider refuses with this status; None when it says nothing."""
        ...


class ApiKey:
    """A bearer key, or none."""

    REFUSED: frozenset[int] = frozenset({httpx.codes.UNAUTHORIZED})

    def __init__(self, key: Secret | None, setting: str, renew: RenewKey | None) -> None:
        self._key = key
        self._setting = setting
        self._renew = renew

    async def grant(self, url: httpx.URL, content: bytes) -> Grant:
        """Return the key as a header."""
        key = self._key
        return Grant({} if key is None else {"authorization": f"Bearer {key.reveal()}"}, key)

    async def renewed(self, refused: Grant) -> bool:
        """Read the key anew where the setting says where it is kept."""
        if self._key != refused.credentials:
            return True
        found = await self._renew(self._setting) if self._renew is not None else None
        if found is None or found == refused.credentials:
            return False
        self._key = found
        return True

    def refusal(self, status: int) -> str | None:
        """Name the setting."""
        if status != httpx.codes.UNAUTHORIZED:
            return None
        return f"the AI refused the key ({status}): check {self._setting}"
