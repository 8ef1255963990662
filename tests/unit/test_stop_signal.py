"""The one way to end a generation early."""

import asyncio

import pytest

from chat.application.stop_signal import StopSignal
from chat.domain.errors import FailureCode
from chat.domain.model import Outcome, Status

FAR = 1e9


async def stopped_by(stop: StopSignal, seconds: float = FAR) -> None:
    async with stop.until(asyncio.get_running_loop().time() + seconds):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (Status.CANCELLED, Outcome(Status.CANCELLED)),
        (Status.INTERRUPTED, Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED)),
    ],
)
async def test_it_ends_a_silent_block_and_says_how_the_answer_ends(status, outcome):
    stop = StopSignal()
    waiting = asyncio.create_task(stopped_by(stop))
    await asyncio.sleep(0)
    stop.stop(status)
    with pytest.raises(TimeoutError):
        await waiting
    assert stop.outcome() == outcome


async def test_the_first_reason_stands_and_any_number_of_calls_does_no_harm():
    stop = StopSignal()
    waiting = asyncio.create_task(stopped_by(stop))
    await asyncio.sleep(0)
    for _ in range(3):
        stop.cancel()
        stop.stop(Status.INTERRUPTED)
    with pytest.raises(TimeoutError):
        await waiting
    stop.cancel()
    assert stop.outcome() == Outcome(Status.CANCELLED)


async def test_at_its_time_it_is_the_deadline():
    stop = StopSignal()
    with pytest.raises(TimeoutError):
        await stopped_by(stop, seconds=0)
    assert stop.outcome() == Outcome(Status.TIMEOUT, None, FailureCode.DEADLINE)


async def test_a_block_that_ends_by_itself_is_left_alone():
    stop = StopSignal()
    async with stop.until(asyncio.get_running_loop().time() + FAR):
        pass
    stop.cancel()  # too late for the block, and remembered
    assert stop.status is Status.CANCELLED
