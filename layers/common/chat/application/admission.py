"""A message's slot within its user's limits."""

from __future__ import annotations

from chat.application.ports import AdmissionRequest, RateLimiter
from chat.domain.errors import RateLimited


class Admission:
    """One attempt's slot: acquired at most once, released exactly once if it was."""

    def __init__(self, rate_limiter: RateLimiter, request: AdmissionRequest) -> None:
        self._rate_limiter, self._request = rate_limiter, request
        self._is_held = False

    async def acquire(self, tokens: int) -> None:
        """Take the slot and reserve `tokens`.

        Raises:
            RateLimited: a limit is reached; nothing is held.
        """
        self._is_held = True  # also if the caller is cancelled before the reply arrives
        try:
            await self._rate_limiter.acquire(self._request, tokens)
        except RateLimited:
            self._is_held = False
            raise

    async def release(self, tokens: int, has_started: bool = True) -> None:
        """Give the slot back and replace the reservation by the `tokens` used; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            await self._rate_limiter.release(self._request, tokens, has_started)
