"""A message's slot within its user's limits, by itself."""

import asyncio

import pytest

from chat.application.admission import Admission
from chat.application.ports import AdmissionRequest
from chat.domain.errors import RateLimited
from tests.kit.coordination import NoRateLimiter

REQUEST = AdmissionRequest("user", "chat:message", "1")


class Full(NoRateLimiter):
    async def acquire(self, *args) -> None:
        raise RateLimited("too many", 3)


class Silent(NoRateLimiter):
    """Takes the slot; its reply never comes."""

    async def acquire(self, *args) -> None:
        await super().acquire(*args)
        await asyncio.Event().wait()


async def test_what_was_acquired_is_released_once():
    limiter = NoRateLimiter()
    admission = Admission(limiter, REQUEST)
    await admission.acquire(100)
    assert limiter.places == {REQUEST: 100}
    await admission.release(7)
    limiter.places[REQUEST] = 5  # as another attempt might have
    await admission.release(9)
    assert (limiter.places, limiter.spent) == ({REQUEST: 5}, {REQUEST: 7})


async def test_what_was_refused_is_not_released():
    limiter = Full()
    limiter.places[REQUEST] = 5
    admission = Admission(limiter, REQUEST)
    with pytest.raises(RateLimited):
        await admission.acquire(100)
    await admission.release(0, has_started=False)
    assert limiter.places == {REQUEST: 5}


async def test_what_was_acquired_while_nobody_waited_any_more_is_released():
    limiter = Silent()
    admission = Admission(limiter, REQUEST)
    waiting = asyncio.create_task(admission.acquire(100))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await admission.release(0, has_started=False)
    assert not limiter.places
    assert not limiter.counted
