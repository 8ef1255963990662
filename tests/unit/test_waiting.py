import asyncio

import pytest

from tests.kit.waiting import until, until_sync


async def test_until_returns_the_first_truthy_result_of_a_plain_or_an_async_condition():
    answers = iter([0, None, "", 7, 8])
    assert await until(lambda: next(answers)) == 7

    async def later() -> int:
        return next(answers)

    assert await until(later) == 8


async def test_until_lets_other_tasks_run():
    event = asyncio.Event()
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: event.set())
    assert await until(event.is_set)


async def test_until_fails_by_name_and_shows_the_last_result():
    with pytest.raises(AssertionError, match=r"Not within 0\.02 s: the queue is empty \(last: \[\]\)"):
        await until(lambda: [], "the queue is empty", seconds=0.02)


def test_until_sync_does_the_same_without_a_loop():
    answers = iter([0, 3])
    assert until_sync(lambda: next(answers)) == 3
    with pytest.raises(AssertionError, match="never"):
        until_sync(lambda: False, "never", seconds=0.02)
