"""When a question is put to the AI again, before it has said anything: how often, and after how long."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

from chat.domain.errors import AnswerFailed, FailureCode

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
"""A service that asks for a longer pause is not asked again: the user is waiting."""

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]]


class Retries:
    """Counts the further tries of one answer and pauses before each."""

    def __init__(self, most: int, sleep: Sleep) -> None:
        self._left = most
        self._sleep = sleep
        self._pause_seconds = FIRST_PAUSE_SECONDS

    async def pause(self, failure: AnswerFailed, retry_after: str | None = None) -> None:
        """Wait as long as the service asks for, else longer each time and never as long as others do.

        Raises:
            AnswerFailed: `failure`, when it is not to be tried again.
        """
        wish = None if retry_after is None else seconds_until(retry_after, time.time())
        if not self._left or failure.code is FailureCode.AI_REJECTED or (wish or 0) > MAX_PAUSE_SECONDS:
            raise failure
        self._left -= 1
        jitter = random.uniform(0.75, 1)  # noqa: S311  # nothing depends on its being unpredictable
        seconds = self._pause_seconds * jitter if wish is None else wish
        self._pause_seconds = min(self._pause_seconds * 2, MAX_PAUSE_SECONDS)
        logger.warning(
            "the AI is asked again", extra={"code": failure.code, "detail": failure.detail, "seconds": seconds}
        )
        await self._sleep(seconds)


def seconds_until(retry_after: str, now: float) -> float | None:
    """Return what a `Retry-After` asks for, None when it says nothing. Source: RFC 9110, section 10.2.3.

    Some services send fractions of seconds, which the RFC does not know.
    """
    try:
        if retry_after.strip().replace(".", "", 1).isdecimal():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None
