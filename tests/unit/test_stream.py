"""An answer's life, from the owner's side."""

import asyncio
import json
from datetime import timedelta

import pytest

from chat.application.ports import Dropped, Finish, ReasoningDelta, SourcesAdded, TextDelta
from chat.application.run_answer import JOINED_FROM, MAX_CHARACTERS
from chat.application.telemetry_events import OrphanRecovered
from chat.domain.answer import Answer
from chat.domain.errors import (
    AnswerFailed,
    ChatNotFound,
    FailureCode,
    IdempotencyConflict,
    RateLimited,
    StorageUnavailable,
    StreamInProgress,
)
from chat.domain.model import ChatMessage, FinalAnswer, Outcome, Source, Status, StoredAnswer, Usage, new_id
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import MemoryCoordination, NoRateLimiter
from tests.kit.waiting import until
from tests.kit.world import Client, World, kill


class FaultyChats(MemoryChats):
    """MySQL that goes away when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.away: set[str] = set()
        self.called: list[str] = []

    def _check(self, name: str) -> None:
        self.called.append(name)
        if name in self.away:
            raise StorageUnavailable

    async def open_answer(self, *args, **more):
        self._check("open_answer")
        return await super().open_answer(*args, **more)

    async def find_sent(self, *args):
        self._check("find_sent")
        return await super().find_sent(*args)

    async def finish(self, *args, **more):
        self._check("finish")
        return await super().finish(*args, **more)

    async def checkpoint(self, *args, **more):
        self._check("checkpoint")
        return await super().checkpoint(*args, **more)


@pytest.fixture
def chats() -> FaultyChats:
    return FaultyChats()


async def test_an_answer_is_delivered_stored_and_released(chats):
    world = World(chats)
    client = await world.ask(await world.new_chat())
    assert client.names == ["start", "", "", "done"]
    assert client.text == "Hello, world"
    stored = await world.stored(client)
    assert (stored.status, stored.text, stored.finish_reason) == (Status.COMPLETED, "Hello, world", "stop")
    assert client.done["characters"] == len("Hello, world")
    assert not world.coordination.leases
    assert not world.limits.places
    assert world.telemetry.kinds() == ["AnswerStarted", "FirstDeltaSent", "AnswerEnded"]


async def test_start_comes_before_the_ai_has_said_anything(chats):
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI(silence, "late", Finish("stop")))
    client, task = await world.begin(await world.new_chat())
    assert client.names == ["start"]
    assert client.start["model"] == "scripted"
    silence.set()
    await task
    assert client.done["status"] == "completed"


async def test_it_is_stored_before_done_is_delivered(chats):
    world = World(chats)
    generation = await world.send(await world.new_chat())

    def deliver(events, with_ids=True):
        if events[-1].name == "done":
            order.append("done")

    order: list[str] = []
    finish = chats.finish

    async def watched(*args, **more):
        result = await finish(*args, **more)
        order.append("stored")
        return result

    chats.finish = watched
    await generation.run(deliver)
    assert order == ["stored", "done"]


async def test_earlier_turns_go_to_the_ai_and_two_chats_never_mix(chats):
    world = World(chats)
    one, two = await world.new_chat(), await world.new_chat()
    await world.ask(one, "first of one")
    await world.ask(two, "first of two")
    await world.ask(one, "second of one")
    assert world.ai.calls[-1] == [
        ChatMessage("user", "first of one"),
        ChatMessage("assistant", "Hello, world"),
        ChatMessage("user", "second of one"),
    ]
    assert world.ai.max_tokens == [100, 100, 100]


async def test_reasoning_sources_and_usage_are_delivered_and_stored(chats):
    source = Source("t", "https://u")
    script = [ReasoningDelta("hm"), TextDelta("yes"), SourcesAdded([source]), Finish("length"), Usage(7, 8)]
    world = World(chats, ai=ScriptedAI(*script))
    client = await world.ask(await world.new_chat())
    assert client.names == ["start", "reasoning", "", "sources", "done"]
    assert client.done["usage"] == {"inputTokens": 7, "outputTokens": 8, "estimated": False}
    stored = await world.stored(client)
    assert (stored.reasoning, list(stored.sources), stored.usage) == ("hm", [source], Usage(7, 8))
    assert (stored.status, stored.finish_reason) == (Status.COMPLETED, "length")


async def test_usage_that_the_ai_does_not_say_is_estimated_and_says_so(chats):
    world = World(chats)
    client = await world.ask(await world.new_chat())
    assert client.done["usage"]["estimated"] is True
    assert client.done["usage"]["outputTokens"] > 0


async def test_settled_tokens_are_the_ones_used(chats):
    world = World(chats, ai=ScriptedAI("x", Finish("stop"), Usage(7, 8)))
    await world.ask(await world.new_chat())
    assert list(world.limits.spent.values()) == [15]


@pytest.mark.parametrize("code", [FailureCode.AI_UNAVAILABLE, FailureCode.AI_INCOMPLETE, FailureCode.AI_ERROR])
@pytest.mark.parametrize("partial", [[], ["some ", "text"]])
async def test_a_failure_of_the_ai_ends_the_answer_with_its_partial_text(chats, code, partial):
    world = World(chats, ai=ScriptedAI(*partial, AnswerFailed(code)))
    client = await world.ask(await world.new_chat())
    assert client.failure["code"] == code
    assert client.names[-2:] == ["failure", "done"]
    assert client.done["status"] == "failed"
    stored = await world.stored(client)
    assert (stored.status, stored.text, stored.error_code) == (Status.FAILED, "".join(partial), code)


async def test_an_unknown_error_is_ours_and_the_answer_still_ends(chats):
    world = World(chats, ai=ScriptedAI("partial", ZeroDivisionError("a secret")))
    client = await world.ask(await world.new_chat())
    assert client.failure["code"] == "internal_error"
    assert "secret" not in client.events[-2].data
    assert (await world.stored(client)).text == "partial"


async def test_the_deadline_ends_a_silent_answer_in_time(chats):
    world = World(chats, ai=ScriptedAI("partial", asyncio.Event()))
    client = await world.ask(await world.new_chat(), seconds=0.2)
    assert (client.done["status"], client.failure["code"]) == ("timeout", "deadline")
    assert (await world.stored(client)).text == "partial"
    assert world.ai.left == 1


async def test_the_same_message_with_other_content_leaves_the_place_of_the_first_alone(chats):
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI("x", silence, Finish("stop")))
    chat_id, message_id = await world.new_chat(), new_id()
    _, task = await world.begin(chat_id, message=message_id)
    places = dict(world.limits.places)
    with pytest.raises(IdempotencyConflict):
        await world.send(chat_id, "something else", message=message_id)
    assert places and world.limits.places == places
    silence.set()
    await task
    assert not world.limits.places
    assert sum(world.limits.spent.values()) > 0


async def test_an_answer_that_never_ends_is_ended_while_it_can_still_be_stored(chats):
    part = "x" * (MAX_CHARACTERS // 2)
    world = World(chats, ai=ScriptedAI(part, ReasoningDelta(part), *["more"] * 100))
    client = await world.ask(await world.new_chat())
    assert (client.done["status"], client.failure["code"], client.text) == ("failed", "ai_invalid", part + "more")
    assert (await world.stored(client)).text == client.text


async def test_a_very_long_answer_is_told_in_larger_pieces(chats):
    batch = [TextDelta("a"), TextDelta("b"), ReasoningDelta("c"), TextDelta("d")]
    world = World(chats, ai=ScriptedAI([TextDelta("x")] * JOINED_FROM, batch))
    client = await world.ask(await world.new_chat())
    assert [event.data for event in client.events[-5:-1]] == [
        '{"delta":"x"}',
        *map('{{"delta":"{}"}}'.format, ["ab", *"cd"]),
    ]
    assert client.text == "x" * JOINED_FROM + "abd"


async def test_what_was_dropped_of_an_answer_is_told_at_its_end(chats):
    world = World(chats, ai=ScriptedAI("Hi", Dropped(2)))
    client = await world.ask(await world.new_chat())
    assert client.done["dropped"] == {"events": 2}


async def test_whatever_keeps_an_end_from_being_stored_the_client_gets_it(chats):
    class Odd(MemoryChats):
        async def finish(self, *args, **more):
            raise ValueError("data too long")

        async def checkpoint(self, *args, **more):
            raise ValueError("data too long")

    silence = asyncio.Event()
    world = World(Odd(), ai=ScriptedAI("x", silence, Finish("stop")), checkpoint_seconds=0.001)
    client, task = await world.begin(await world.new_chat())
    await asyncio.sleep(0.01)
    silence.set()
    await task
    assert client.done["saved"] is False
    assert list(world.coordination.parked) == [client.done["messageId"]]


async def test_what_the_start_takes_is_not_added_to_the_deadline(chats):
    """Invariant 12, with a start that finds a dead owner's answer in the way and stores that have become slow."""

    class Slow(MemoryChats):
        async def open_answer(self, *args, **more):
            await asyncio.sleep(0.5)
            return await super().open_answer(*args, **more)

    world = World(Slow(), ai=ScriptedAI("x", asyncio.Event()), store_seconds=0.1)
    chat_id, message_id = await world.new_chat(), new_id()
    _, task = await world.begin(chat_id, message=message_id)
    world.chats.is_away = True
    await kill(task, world.coordination)
    world.chats.is_away = False
    world.clock.ahead = timedelta(minutes=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    client = await world.ask(chat_id, message=message_id, seconds=2.0)
    assert client.done["status"] == "timeout"
    assert loop.time() - began < 1.5


async def test_a_start_that_takes_all_the_time_there_is_ends_before_the_deadline(chats):
    class Hanging(MemoryChats):
        async def open_answer(self, *args, **more):
            await asyncio.Event().wait()

    world = World(Hanging())
    chat_id = await world.new_chat()
    with pytest.raises(StorageUnavailable):
        await world.send(chat_id, seconds=0.2)
    assert not world.limits.places
    assert not world.coordination.lines


class SlowToLeave(ScriptedAI):
    """Takes its time to close, once it is left."""

    def __init__(self) -> None:
        super().__init__("x", asyncio.Event())
        self.is_closing, self.may_close = asyncio.Event(), asyncio.Event()

    async def answer(self, turns, max_tokens, model):
        try:
            async for batch in super().answer(turns, max_tokens, model):
                yield batch
        finally:
            self.is_closing.set()
            await self.may_close.wait()


async def test_cancelled_again_while_the_ai_is_being_closed_it_raises_nothing_at_whoever_tells(chats):
    """Message and polled key both tell, and beat and subscription belong to all answers of the process."""
    world = World(chats, ai=SlowToLeave())
    client = Client()
    generation = await world.send(await world.new_chat())
    running = asyncio.create_task(generation.run(client))
    await client.has(2)
    generation.cancel()
    await world.ai.is_closing.wait()
    generation.cancel()
    world.ai.may_close.set()
    await running
    assert client.done["status"] == "cancelled"


async def test_another_session_may_answer_at_the_same_time_and_this_one_may_not(chats):
    world = World(chats, ai=ScriptedAI("x", asyncio.Event()))
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id, session="phone")
    _other, other_task = await world.begin(chat_id, session="laptop")
    with pytest.raises(StreamInProgress) as caught:
        await world.send(chat_id, "again", session="phone")
    assert caught.value.active_message_id == client.start["messageId"]
    assert len(world.limits.places) == 2
    for session in ("phone", "laptop"):
        await world.cancel(chat_id, session)
    await asyncio.gather(task, other_task)


async def test_a_foreign_or_unknown_chat_is_not_found_and_costs_nothing(chats):
    world = World(chats)
    chat_id = await world.new_chat()
    world.user = "somebody else"
    for wanted in (chat_id, new_id()):
        with pytest.raises(ChatNotFound):
            await world.send(wanted)
    assert not world.ai.calls
    assert not world.limits.places
    assert not world.coordination.lines


async def test_a_refused_place_starts_nothing(chats):
    class Full(NoRateLimiter):
        async def acquire(self, *args) -> None:
            raise RateLimited("too many", 3)

    world = World(chats, limits=Full())
    chat_id = await world.new_chat()
    with pytest.raises(RateLimited):
        await world.send(chat_id)
    assert "open_answer" not in chats.called


class Closing(NoRateLimiter):
    """Lets everything pass until it `is_full`."""

    is_full = False

    async def acquire(self, *args) -> None:
        if self.is_full:
            raise RateLimited("too many", 3)
        await super().acquire(*args)


async def test_a_limit_keeps_no_message_from_the_answer_that_it_has(chats):
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI("one ", silence, "two", Finish("stop")), limits=Closing())
    chat_id, message = await world.new_chat(), new_id()
    client, task = await world.begin(chat_id, message=message)
    world.limits.is_full = True
    again = asyncio.create_task(world.ask(chat_id, message=message))
    silence.set()
    await task
    assert (await again).text == client.text
    assert (await world.ask(chat_id, message=message)).done == client.done
    with pytest.raises(IdempotencyConflict):
        await world.send(chat_id, "something else", message=message)
    for other in (new_id(), None):
        with pytest.raises(RateLimited):
            await world.send(chat_id, message=other)
    chats.away.add("find_sent")
    with pytest.raises(RateLimited):
        await world.send(chat_id, message=message)
    chats.away.clear()
    world.user = "somebody else"
    with pytest.raises(ChatNotFound):
        await world.send(chat_id, message=message)
    assert len(world.ai.calls) == 1


async def test_a_limit_holds_for_the_retry_of_a_failed_answer(chats):
    world = World(chats, ai=ScriptedAI(AnswerFailed(FailureCode.AI_ERROR)), limits=Closing())
    chat_id, message = await world.new_chat(), new_id()
    await world.ask(chat_id, message=message)
    world.limits.is_full = True
    with pytest.raises(RateLimited):
        await world.send(chat_id, message=message)
    assert len(world.ai.calls) == 1


@pytest.mark.parametrize("turns", range(20))
async def test_cancelled_while_it_ends_it_keeps_neither_place_nor_line(chats, turns):
    """Found by an adversarial reader: the platform's deadline may strike at any moment."""
    world = World(chats, ai=ScriptedAI("x", asyncio.Event()))
    _, task = await world.begin(await world.new_chat())
    task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not world.limits.places
    assert not world.coordination.lines


async def test_only_what_started_an_answer_counts(chats):
    world = World(chats, ai=ScriptedAI("x", asyncio.Event()))
    chat_id, message = await world.new_chat(), new_id()
    _, task = await world.begin(chat_id, message=message)
    with pytest.raises(StreamInProgress):
        await world.send(chat_id)
    chats.away.add("open_answer")
    with pytest.raises(StorageUnavailable):
        await world.send(chat_id, message=message)
    chats.away.clear()
    assert len(world.limits.places) == 1
    assert not world.limits.counted
    await world.send(chat_id, message=message)
    assert len(world.limits.places) == 1
    assert not world.limits.counted
    await world.cancel(chat_id)
    await task
    assert world.limits.counted == [f"{chat_id}:{message}"]
    await world.send(chat_id, message=message)
    assert world.limits.counted == [f"{chat_id}:{message}"]
    assert not world.limits.places


async def test_who_waits_no_longer_for_a_place_gives_it_back(chats):
    class Slow(NoRateLimiter):
        async def acquire(self, *args) -> None:
            await super().acquire(*args)
            await asyncio.Event().wait()

    world = World(chats, limits=Slow())
    chat_id = await world.new_chat()
    sending = asyncio.create_task(world.send(chat_id))
    await until(lambda: world.limits.places)
    sending.cancel()
    await asyncio.wait([sending])
    assert not world.limits.places


async def test_mysql_away_at_the_start_calls_no_ai(chats):
    world = World(chats)
    chat_id = await world.new_chat()
    chats.away.add("open_answer")
    with pytest.raises(StorageUnavailable):
        await world.send(chat_id)
    assert not world.ai.calls
    assert not world.limits.places
    assert not world.coordination.lines


class TestIdempotency:
    """One user message, one generation."""

    async def test_the_same_message_follows_the_running_answer(self, chats):
        silence = asyncio.Event()
        world = World(chats, ai=ScriptedAI("one ", silence, "two", Finish("stop")))
        chat_id, message = await world.new_chat(), new_id()
        client, task = await world.begin(chat_id, message=message)
        again = asyncio.create_task(world.ask(chat_id, message=message, session="laptop"))
        await world.ai.reached.wait()
        silence.set()
        await task
        assert (await again).events == client.events
        assert len(world.ai.calls) == 1

    async def test_the_same_message_replays_the_stored_answer(self, chats):
        world = World(chats)
        chat_id, message = await world.new_chat(), new_id()
        first = await world.ask(chat_id, message=message)
        second = await world.ask(chat_id, message=message)
        assert (second.text, second.done) == (first.text, first.done)
        assert len(world.ai.calls) == 1
        assert not world.limits.places

    async def test_twenty_at_once_make_one_answer(self, chats):
        world = World(chats)
        chat_id, message = await world.new_chat(), new_id()
        clients = await asyncio.gather(*(world.ask(chat_id, message=message) for _ in range(20)))
        assert len(world.ai.calls) == 1
        assert {client.start["messageId"] for client in clients} == {clients[0].start["messageId"]}
        assert {client.text for client in clients} == {"Hello, world"}

    async def test_other_content_under_the_same_id_is_refused(self, chats):
        world = World(chats)
        chat_id, message = await world.new_chat(), new_id()
        await world.ask(chat_id, "one", message=message)
        with pytest.raises(IdempotencyConflict):
            await world.send(chat_id, "two", message=message)

    async def test_after_a_failure_it_is_a_retry(self, chats):
        world = World(chats, ai=ScriptedAI("half", AnswerFailed(FailureCode.AI_ERROR)))
        chat_id, message = await world.new_chat(), new_id()
        failed = await world.ask(chat_id, message=message)
        world.ai.script = ["whole", Finish("stop")]
        retried = await world.ask(chat_id, message=message)
        assert retried.text == "whole"
        assert retried.start["messageId"] != failed.start["messageId"]
        assert retried.start["userMessageId"] == failed.start["userMessageId"] == message

    async def test_after_a_cancel_it_is_not(self, chats):
        world = World(chats, ai=ScriptedAI("half", asyncio.Event()))
        chat_id, message = await world.new_chat(), new_id()
        client, task = await world.begin(chat_id, message=message)
        await client.has(2)
        await world.cancel(chat_id)
        await task
        again = await world.ask(chat_id, message=message)
        assert again.done == client.done
        assert len(world.ai.calls) == 1


class TestMySqlAwayAtTheEnd:
    """What could not be stored is parked, and whoever looks next stores it."""

    async def parked(self, chats):
        world = World(chats, ai=ScriptedAI("안녕", Finish("stop"), Usage(1, 2)), store_seconds=0.3)
        chat_id = await world.new_chat()
        chats.away.add("finish")
        client = await world.ask(chat_id, session="phone")
        chats.away.clear()
        return world, chat_id, client

    async def test_it_is_retried_parked_and_honest(self, chats):
        world, _, client = await self.parked(chats)
        assert chats.called.count("finish") > 1
        assert client.done["saved"] is False
        assert (await world.stored(client)).is_active
        assert "final_parked" in world.telemetry.kinds()

    async def test_the_next_stream_stores_it(self, chats):
        world, chat_id, client = await self.parked(chats)
        await world.ask(chat_id, "next", session="phone")
        stored = await world.stored(client)
        assert (stored.status, stored.text, stored.usage) == (Status.COMPLETED, "안녕", Usage(1, 2))
        assert world.ai.calls[-1][:2] == [ChatMessage("user", "hello"), ChatMessage("assistant", "안녕")]

    async def test_a_cancel_stores_it_and_cancels_nothing(self, chats):
        world, chat_id, client = await self.parked(chats)
        outcome = await world.cancel(chat_id, message_id=client.start["messageId"])
        assert type(outcome).__name__ == "NotActive"
        assert (await world.stored(client)).status is Status.COMPLETED

    async def test_a_watcher_stores_it_and_gets_it_whole(self, chats):
        world, chat_id, client = await self.parked(chats)
        following = await world.watch(chat_id)
        again = type(client)()
        await following.run(again)
        assert again.text == "안녕"
        assert "saved" not in again.done


class TestLostOwnership:
    """An owner that was taken for dead stops, and reports what is stored."""

    async def test_an_owner_whose_answer_was_reaped_starts_afresh_with_what_is_stored(self, chats):
        world = World(chats, ai=ScriptedAI("seen by the client", asyncio.Event()), checkpoint_seconds=0.05)
        chat_id = await world.new_chat()
        client, task = await world.begin(chat_id)
        await client.has(2)
        row = await world.stored(client)
        ending = Outcome(Status.INTERRUPTED, None, "interrupted")
        await chats.finish(
            chat_id,
            row.identity.message_id,
            row.owner_token,
            FinalAnswer(ending, "seen", "", [], Usage(0, 1, True), world.clock()),
        )
        await task
        assert client.names == ["start", "", "start", "", "failure", "done"]
        assert client.text == "seen"
        assert client.done["status"] == "interrupted"
        assert world.ai.left == 1

    async def test_a_commit_whose_reply_was_lost_is_recognised(self, chats):
        class Forgetful(MemoryChats):
            lost = 0

            async def finish(self, *args, **more):
                moved = await super().finish(*args, **more)
                if not self.lost:
                    self.lost += 1
                    raise StorageUnavailable
                return moved

        world = World(Forgetful())
        client = await world.ask(await world.new_chat())
        assert client.names == ["start", "", "", "done"]
        assert "saved" not in client.done
        assert client.done["status"] == "completed"


async def test_a_cancelled_request_stores_what_there_is(chats):
    world = World(chats, ai=ScriptedAI("partial", asyncio.Event()))
    client, task = await world.begin(await world.new_chat())
    await client.has(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stored = await world.stored(client)
    assert (stored.status, stored.text) == (Status.INTERRUPTED, "partial")
    assert not world.coordination.lines


async def test_checkpoints_hold_the_partial_text(chats):
    saved = asyncio.Event()
    checkpoint = chats.checkpoint

    async def watched(*args, **more):
        result = await checkpoint(*args, **more)
        saved.set()
        return result

    chats.checkpoint = watched
    world = World(chats, ai=ScriptedAI("partial", asyncio.Event()), checkpoint_seconds=0.01)
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    await client.has(2)
    saved.clear()
    await saved.wait()
    assert (await world.stored(client)).text == "partial"
    await world.cancel(chat_id)
    await task


class TestReap:
    """Only the dead are reaped, and their text is not lost."""

    async def orphan(self, chats, text_in_log="logged text", text_in_row="logged"):
        """An answer whose process was killed: a row, a log, no lease."""
        world = World(chats, ai=ScriptedAI("x", asyncio.Event()))
        stored = await world.orphan(text_in_log, in_row=text_in_row)
        world.coordination.leases.add(stored.identity.message_id)
        return world, stored

    @pytest.mark.parametrize(
        ("lease", "is_away", "seconds", "is_dead"),
        [
            (True, False, 1000, False),
            (False, False, 10, False),
            (False, False, 16, True),
            (True, True, 16, False),
            (True, True, 29, False),
            (True, True, 31, True),
        ],
    )
    async def test_dead_is_who_is_dead_by_both_clocks(self, chats, lease, is_away, seconds, is_dead):
        world, stored = await self.orphan(chats)
        if not lease:
            world.coordination.leases.clear()
        world.coordination.is_away = is_away
        world.clock.ahead = timedelta(seconds=seconds)
        recovered = await world.recover(stored)
        assert recovered.is_active is not is_dead

    @pytest.mark.parametrize(
        ("log", "row", "kept"), [("longer in the log", "short", "longer in the log"), ("x", "longer row", "longer row")]
    )
    async def test_the_longest_text_known_is_kept(self, chats, log, row, kept):
        world, stored = await self.orphan(chats, log, row)
        world.coordination.leases.clear()
        world.clock.ahead = timedelta(minutes=1)
        recovered = await world.recover(stored)
        assert (recovered.status, recovered.text, recovered.error_code) == (Status.INTERRUPTED, kept, "interrupted")
        assert OrphanRecovered(stored, "interrupted") in world.telemetry.events

    async def test_past_its_deadline_a_silent_owner_is_dead(self, chats):
        world, stored = await self.orphan(chats)
        world.coordination.leases.clear()
        fresh = StoredAnswer(
            **{
                name: getattr(stored, name)
                for name in StoredAnswer.__slots__
                if name not in ("deadline_at", "owner_seen_at")
            },
            deadline_at=world.clock() - timedelta(seconds=3),
            owner_seen_at=world.clock(),
        )
        assert world.recover._is_dead(fresh, await world.coordination.owner_status("", ""))

    async def test_an_owner_that_gave_a_sign_of_life_meanwhile_is_not_reaped(self, chats):
        world, stored = await self.orphan(chats)
        world.coordination.leases.clear()
        world.clock.ahead = timedelta(minutes=1)
        alive = Answer(stored.identity)
        alive.begin()
        await chats.checkpoint(alive, stored.owner_token, world.clock())
        recovered = await world.recover(stored)  # judged by what was read before the sign of life
        assert recovered.is_active

    async def test_a_new_message_in_the_session_of_a_dead_answer_is_accepted(self, chats):
        world, stored = await self.orphan(chats)
        world.coordination.leases.clear()
        world.clock.ahead = timedelta(minutes=1)
        world.ai.script = ["fresh", Finish("stop")]
        client = await world.ask(stored.identity.chat_id, "next")
        assert client.text == "fresh"
        assert json.dumps([turn.content for turn in world.ai.calls[-1]]) == json.dumps(["hello", "logged text", "next"])


async def test_with_redis_away_an_answer_completes(chats):
    live = MemoryCoordination()
    live.is_away = True
    world = World(chats, live)
    client = await world.ask(await world.new_chat())
    assert client.done["status"] == "completed"
    assert (await world.stored(client)).text == client.text


async def test_a_send_that_cancels_what_is_busy_leaves_one_running_and_one_cancelled(chats):
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI("partial", silence, "never"))
    chat_id = await world.new_chat()
    first, task = await world.begin(chat_id, "one")
    await first.has(2)
    world.ai.script = ["whole", Finish("stop")]
    second = await world.ask(chat_id, "two", cancels_busy=True)
    await task
    assert (first.done["status"], first.text) == ("cancelled", "partial")
    assert (second.done["status"], second.text) == ("completed", "whole")
    assert [turn.content for turn in world.ai.calls[-1]] == ["one", "partial", "two"]


async def test_another_answer_is_asked_for_with_its_own_message(chats):
    world = World(chats, ai=ScriptedAI("first", Finish("stop")))
    chat_id, message = await world.new_chat(), new_id()
    await world.ask(chat_id, "question", message=message)
    attempt = new_id()
    again = await world.ask(chat_id, None, message=message, attempt_id=attempt, model="other")
    repeated = await world.ask(chat_id, None, message=message, attempt_id=attempt)
    assert [turn.content for turn in world.ai.calls[-1]] == ["question"]
    assert (again.start["messageId"], again.start["model"]) == (repeated.start["messageId"], "other")
    assert world.ai.asked == ["scripted", "other"]


async def test_an_owner_whose_chat_was_deleted_says_so_and_leaves_nothing_behind(chats):
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI("Hello", silence, Finish("stop")))
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    await client.has(2)
    del chats.rows[chat_id]
    silence.set()
    await task
    assert client.done["saved"] is False
    assert (world.coordination.parked, world.coordination.logs) == ({}, {})
    assert world.coordination.discarded == [client.start["messageId"]]
