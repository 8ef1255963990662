"""What a request holds of its user's limits: a slot while it generates an answer, a place while its stream is open."""

from __future__ import annotations

import secrets

from chat.application.ports import AdmissionRequest, RateLimiter, StreamRequest
from chat.domain.errors import RateLimited


class StreamPlace:
    """One open stream's place: taken at most once, given back exactly once if it was."""

    def __init__(self, rate_limiter: RateLimiter, user_id: str, name: str | None = None) -> None:
        self._rate_limiter = rate_limiter
        self.request = StreamRequest(user_id, name or secrets.token_hex(8))
        self._is_held = False

    async def open(self) -> None:
        """Take the place.

        Raises:
            RateLimited: the user has too many open streams; nothing is held.
        """
        self.hold()
        try:
            await self._rate_limiter.open_stream(self.request)
        except RateLimited:
            self._is_held = False
            raise
        except BaseException:  # cancelled before the reply arrived: the place may have been taken
            await self.close()
            raise

    def hold(self) -> None:
        """Note that the place is being taken together with an attempt's slot."""
        self._is_held = True

    async def close(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            await self._rate_limiter.close_stream(self.request)


class Admission:
    """One attempt's slot, and its stream's place: acquired at most once, each released exactly once if it was."""

    def __init__(self, rate_limiter: RateLimiter, request: AdmissionRequest) -> None:
        self._rate_limiter, self._request = rate_limiter, request
        self._is_held = False
        self.stream = StreamPlace(rate_limiter, request.user_id, request.name)

    async def acquire(self, tokens: int) -> None:
        """Take slot and place, and reserve `tokens`.

        Raises:
            RateLimited: a limit is reached; nothing is held.
        """
        self._is_held = True  # also if the caller is cancelled before the reply arrives
        try:
            await self._rate_limiter.acquire(self._request, tokens)
        except RateLimited:
            self._is_held = False
            raise
        finally:
            if self._is_held:
                self.stream.hold()

    def reserve(self, tokens: int) -> None:
        """Reserve so many `tokens` instead, now that it is known what the AI is asked."""
        if self._is_held:
            self._rate_limiter.reserve(self._request, tokens)

    async def release(self, tokens: int, has_started: bool = True) -> None:
        """Give the slot back and replace the reservation by the `tokens` used; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            await self._rate_limiter.release(self._request, tokens, has_started)
