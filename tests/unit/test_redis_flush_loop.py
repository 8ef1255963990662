"""The flush of a process with more streams than it serves in one go."""

import asyncio

import pytest

from chat.adapters.redis.flush_loop import SLICE, FlushLoop
from tests.kit.waiting import until


class Echo:
    """Answers each command with itself, once it may."""

    is_unavailable = False

    def __init__(self) -> None:
        self.trips: list[tuple] = []
        self.may_answer = asyncio.Event()

    async def run(self, *commands):
        self.trips.append(commands)
        await self.may_answer.wait()
        return list(commands)


class Member:
    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count
        self.replies: asyncio.Future = asyncio.get_running_loop().create_future()
        self.when_asked = lambda: None

    def pending_commands(self, now: float):
        self.when_asked()
        self.when_asked = lambda: None
        asked, self.count = self.count, 0
        return [(self.number, one) for one in range(asked)]

    def on_replies(self, replies) -> None:
        self.replies.set_result(list(replies))


@pytest.fixture
async def joined():
    pipe = Echo()
    flush_loop = FlushLoop(pipe)
    members = [Member(number, number % 3) for number in range(4 * SLICE)]
    for member in members:
        flush_loop.join(member)
    yield pipe, flush_loop, members
    for member in members:
        await flush_loop.leave(member)


async def test_all_share_one_trip_and_each_hears_its_own_replies(joined):
    pipe, _, members = joined
    pipe.may_answer.set()
    due = [member for member in members if member.count]
    wanted = [[(member.number, one) for one in range(member.count)] for member in due]
    assert await asyncio.gather(*[member.replies for member in due]) == wanted
    assert len(pipe.trips) == 1
    assert not any(member.replies.done() for member in members if member not in due)


async def test_others_go_on_while_it_gathers(joined):
    _, _, members = joined
    loop, told = asyncio.get_running_loop(), []
    members[0].when_asked = lambda: loop.call_soon(told.append, "another stream's delta")
    members[-1].when_asked = lambda: told.append("the last one asked")
    await until(lambda: len(told) >= 2)
    assert told == ["another stream's delta", "the last one asked"]


async def test_who_leaves_while_it_gathers_or_waits_is_neither_sent_nor_told(joined):
    pipe, flush_loop, members = joined
    asked, unasked, waiting = members[1], members[-1], members[2]
    members[SLICE + 1].when_asked = lambda: [flush_loop.drop(asked), flush_loop.drop(unasked)]
    await until(lambda: pipe.trips)
    flush_loop.drop(waiting)
    pipe.may_answer.set()
    await asyncio.gather(*[member.replies for member in members[3:-1] if member.number % 3])
    sent = {number for number, _ in pipe.trips[0]}
    assert asked.number not in sent
    assert unasked.number not in sent
    assert waiting.number in sent
    assert not any(member.replies.done() for member in (asked, unasked, waiting))


@pytest.mark.parametrize("where", ["pending_commands", "on_replies"])
async def test_one_that_fails_harms_no_other_and_is_told_of_in_the_log(joined, where, caplog):
    pipe, _, members = joined

    def fail(*_):
        raise RuntimeError("a bug")

    setattr(members[1], where, fail)
    pipe.may_answer.set()
    await asyncio.gather(*[member.replies for member in members[2:] if member.number % 3])
    members[2].count, members[2].replies = 1, asyncio.get_running_loop().create_future()
    await members[2].replies
    assert "a participant of the flush failed" in caplog.text
