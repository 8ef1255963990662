"""Invariants 10 and 11: one message makes one answer, one session has one, and sequence numbers have no gap."""

import asyncio

import pytest
from sqlalchemy import event, select

from chat.adapters.mysql.tables import messages
from chat.application.run_answer import AnswerRun
from chat.domain.errors import RateLimited, StreamInProgress
from chat.domain.model import StoredAnswer, new_id
from chat.settings import LimitSettings
from tests.kit import ai_server, counts
from tests.kit.fleet import Process, patient
from tests.kit.waiting import until
from tests.kit.world import Client

DEADLOCK = 1213
"""Source: MySQL 8.4 Error Reference."""
SESSIONS = 8

on_every_database = pytest.mark.parametrize("stores", ["embedded", "servers"], indirect=True)


def rows(process: Process, chat_id: str) -> list[tuple[int, str]]:
    """Return the sequence number and the role of each message of a chat, in order."""
    wanted = select(messages.c.seq, messages.c.role).where(messages.c.chat_id == chat_id).order_by(messages.c.seq)
    with process.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(wanted)]


def deadlocks(process: Process) -> list[int]:
    """Return a list that every deadlock from now on is appended to."""
    found: list[int] = []

    def note(context) -> None:
        code = getattr(context.original_exception, "args", [None])[0]
        if code == DEADLOCK:
            found.append(code)

    event.listen(process.engine, "handle_error", note)
    return found


@on_every_database
async def test_one_message_sent_twenty_times_at_once_is_one_generation_and_everyone_gets_it(fleet, ai):
    """Invariant 10."""
    ai.default = ai_server.say("the ", "same ", "for all")
    processes = [await fleet.process(concurrency=8) for _ in range(3)]
    for number in range(1, counts.of(50) + 1):
        chat_id, message = await processes[0].new_chat(), new_id()
        clients = await asyncio.gather(*(processes[n % 3].ask(chat_id, message=message) for n in range(20)))
        assert len(ai.calls) == number
        assert {client.text for client in clients} == {"the same for all"}
        assert {client.done["messageId"] for client in clients} == {clients[0].done["messageId"]}
        assert [role for _, role in rows(processes[0], chat_id)] == ["user", "assistant"]


@on_every_database
async def test_of_two_sends_at_once_in_a_session_one_is_taken_and_one_is_told_of_it(fleet, ai):
    """Invariant 11."""
    ai.default = patient
    here, there = [await fleet.process() for _ in range(2)]
    for _ in range(counts.of(200)):
        chat_id = await here.new_chat()
        found = await asyncio.gather(here.send(chat_id, "0"), there.send(chat_id, "0"), return_exceptions=True)
        (refused,) = [one for one in found if isinstance(one, StreamInProgress)]
        (taken,) = [one for one in found if one is not refused]
        assert refused.active_message_id == taken.answer.identity.message_id
        taken.cancel()
        await taken.run(Client())
        assert len(rows(here, chat_id)) == 2


@on_every_database
@pytest.mark.timeout(180)
async def test_sequence_numbers_have_neither_gap_nor_double_and_no_deadlock(fleet, ai):
    """Invariant 11: many sessions of one chat through several processes."""
    ai.default = ai_server.say("word")
    processes = [await fleet.process(concurrency=4) for _ in range(4)]
    noted = [deadlocks(process) for process in processes]
    chat_id = await processes[0].new_chat()
    inserts = counts.of(10_000)

    async def session(number: int) -> None:
        for _ in range(inserts // 2 // SESSIONS):
            client = await processes[number % 4].ask(chat_id, session=f"session-{number}")
            assert client.done["status"] == "completed"

    await asyncio.gather(*(session(number) for number in range(SESSIONS)))
    count = inserts // 2 // SESSIONS * SESSIONS * 2
    assert [seq for seq, _ in rows(processes[0], chat_id)] == list(range(1, count + 1))
    assert not any(noted)


async def waiting(call: ai_server.Call) -> None:
    """Say one word, then nothing until the client goes away."""
    await call.start()
    await call.send(ai_server.text("one "))
    await call.closed.wait()


def endings(process: Process, chat_id: str) -> list[str]:
    """Return the status of each answer of a chat, in order."""
    wanted = select(messages.c.status).where(messages.c.chat_id == chat_id, messages.c.role == "assistant")
    with process.engine.connect() as connection:
        return list(connection.execute(wanted.order_by(messages.c.seq)).scalars())


@on_every_database
@pytest.mark.parametrize("count", [2, 3, 5, 20])
async def test_of_sends_at_once_that_cancel_what_is_busy_one_is_left_running(fleet, ai, count):
    """Each is answered, or is told of another that is; nobody is cancelled for nothing."""
    ai.default = waiting
    processes = [await fleet.process(concurrency=8) for _ in range(3)]
    for _ in range(counts.of(20)):
        chat_id = await processes[0].new_chat()
        streams: list[asyncio.Task[None]] = []

        async def send(number: int, chat_id: str = chat_id, streams: list[asyncio.Task[None]] = streams) -> None:
            stream = await processes[number % 3].send(chat_id, "1", cancels_busy=True)
            assert isinstance(stream, AnswerRun)
            streams.append(asyncio.create_task(stream.run(Client())))

        sent = await asyncio.gather(*(send(number) for number in range(count)), return_exceptions=True)
        assert {type(one) for one in sent if one is not None} <= {StreamInProgress}
        await until(lambda streams=streams: running(streams) == 1)
        cancelled = len(streams) - 1
        assert sorted(endings(processes[0], chat_id)) == ["cancelled"] * cancelled + ["streaming"]
        await processes[0].cancel(chat_id)
        await asyncio.gather(*streams)


def running(streams: list[asyncio.Task[None]]) -> int:
    return sum(not one.done() for one in streams)


@on_every_database
async def test_at_the_limit_a_send_that_cancels_what_is_busy_takes_its_place(fleet, ai):
    """The slot of the answer that it cancels is the one that it needs."""
    ai.default = waiting
    process = await fleet.process(limits=LimitSettings(1, 0, 0))
    chat_id = await process.new_chat()
    first, task = await process.begin(chat_id, "1")
    second, other = await process.begin(chat_id, "1", cancels_busy=True)
    await task
    assert first.done["status"] == "cancelled"
    with pytest.raises(RateLimited):  # another session's answer is not taken over
        await process.send(chat_id, "1", session="tablet", cancels_busy=True)
    await process.cancel(chat_id)
    await other
    assert second.done["status"] == "cancelled"


@on_every_database
async def test_at_the_limit_a_message_that_is_sent_again_does_not_cancel_its_own_answer(fleet, ai):
    ai.default = waiting
    process = await fleet.process(limits=LimitSettings(1, 0, 0))
    chat_id, message = await process.new_chat(), new_id()
    client, task = await process.begin(chat_id, "1", message=message, cancels_busy=True)
    again = await process.send(chat_id, "1", message=message, cancels_busy=True)
    assert isinstance(again, StoredAnswer)
    assert again.is_active
    await process.cancel(chat_id)
    await task
    assert client.start["messageId"] == again.identity.message_id
