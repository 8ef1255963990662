"""Watchers get what an unbroken client gets, exact to the character."""

import asyncio
from datetime import timedelta

import pytest

from chat.application.follow_answer import FollowRequest
from chat.application.ports import Finish, ReasoningDelta, SourcesAdded
from chat.domain.answer import Answer
from chat.domain.errors import ChatNotFound
from chat.domain.model import Source, Status, new_id
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import MemoryCoordination
from tests.kit.waiting import until
from tests.kit.world import Client, World

WORDS = ["하나 ", "둘 ", "셋 ", "넷"]


@pytest.fixture
def world() -> World:
    return World(MemoryChats(), ai=ScriptedAI(*WORDS, Finish("stop")))


async def follow(world: World, chat_id: str, **wanted) -> Client:
    following = await world.watch(chat_id, wanted=FollowRequest(**wanted))
    client = Client()
    await following.run(client)
    return client


@pytest.mark.parametrize("after", range(6))
async def test_resuming_after_any_event_gives_exactly_the_rest(world, after):
    chat_id = await world.new_chat()
    client = await world.ask(chat_id)
    resumed = await follow(world, chat_id, message_id=client.start["messageId"], after=after)
    assert resumed.events == client.events[after:]
    assert all(resumed.has_ids)


async def test_a_watcher_of_a_running_answer_gets_all_of_it_live(world):
    silence = asyncio.Event()
    world.ai.script = ["before ", silence, "after", Finish("stop")]
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    watching = asyncio.create_task(follow(world, chat_id))
    await world.ai.reached.wait()
    silence.set()
    await task
    assert (await watching).events == client.events


async def test_without_a_name_it_is_this_sessions_answer_else_the_newest(world):
    world.ai.script = ["x", asyncio.Event()]
    chat_id = await world.new_chat()
    phone, phone_task = await world.begin(chat_id, session="phone")
    laptop, laptop_task = await world.begin(chat_id, session="laptop")
    mine = await world.watch(chat_id, session="phone")
    newest = await world.watch(chat_id, session="tablet")
    assert mine.message_id == phone.start["messageId"]
    assert newest.message_id == laptop.start["messageId"]
    for session in ("phone", "laptop"):
        await world.cancel(chat_id, session)
    await asyncio.gather(phone_task, laptop_task)
    assert await world.watch(chat_id) is None


async def test_an_ended_answer_that_is_named_is_replayed_whole_from_a_start_that_outdates_older_ids(world):
    chat_id, message = await world.new_chat(), new_id()
    client = await world.ask(chat_id, message=message)
    for wanted in ({"message_id": client.start["messageId"]}, {"user_message_id": message}):
        again = await follow(world, chat_id, **wanted)
        assert (again.text, again.start, again.done) == (client.text, client.start, client.done)
        assert again.last_number == 0
        assert not any(again.has_ids[1:])


async def test_nothing_is_there_to_follow(world):
    chat_id = await world.new_chat()
    assert await world.watch(chat_id) is None
    assert await world.watch(chat_id, wanted=FollowRequest(new_id())) is None
    assert await world.watch(chat_id, wanted=FollowRequest(user_message_id=new_id())) is None
    assert await world.watch(chat_id, wanted=FollowRequest(new_id(), after=3)) is None


async def test_a_foreign_chat_cannot_be_followed(world):
    chat_id = await world.new_chat()
    world.user = "somebody else"
    with pytest.raises(ChatNotFound):
        await world.watch(chat_id)


async def test_when_the_log_has_expired_the_answer_is_replayed_from_mysql(world):
    chat_id = await world.new_chat()
    client = await world.ask(chat_id)
    world.coordination.logs.clear()
    again = await follow(world, chat_id, message_id=client.start["messageId"], after=3)
    assert again.names[0] == "start"
    assert (again.text, again.done) == (client.text, client.done)


async def test_sources_that_the_log_lacks_are_not_missed(world):
    """Redis went away before the last of the log was written: all the text is there, its sources are not."""
    world.ai.script = ["one ", SourcesAdded((Source("A", "https://a/"),)), Finish("stop")]
    chat_id = await world.new_chat()
    client = await world.ask(chat_id)
    message_id = client.start["messageId"]
    world.coordination.logs[message_id] = world.coordination.logs[message_id][:2]
    again = await follow(world, chat_id, message_id=message_id, after=2)
    assert again.names == ["start", "", "sources", "done"]
    assert (again.text, again.done) == (client.text, client.done)


class TestDeadOwner:
    """The owner was killed: a row, a log that may be short, no lease."""

    async def orphan(self, world: World, *logged: str, checkpoint: str = "") -> tuple[str, str]:
        stored = await world.orphan(*logged, in_row=checkpoint)
        world.clock.ahead = timedelta(minutes=1)
        return stored.identity.chat_id, stored.identity.message_id

    async def test_a_watcher_gets_the_log_and_an_end(self, world):
        chat_id, message_id = await self.orphan(world, "one ", "two")
        client = await follow(world, chat_id, message_id=message_id, after=2)
        assert [event.number for event in client.events] == [3, 4, 0]
        assert client.names == ["", "failure", "done"]
        assert client.done["status"] == "interrupted"
        stored = await world.chats.find_answer(chat_id, message_id)
        assert (stored.status, stored.text) == (Status.INTERRUPTED, "one two")

    async def test_a_client_that_saw_more_than_was_logged_begins_afresh(self, world):
        chat_id, message_id = await self.orphan(world, "one ")
        client = await follow(world, chat_id, message_id=message_id, after=9)
        assert client.names == ["start", "", "failure", "done"]
        assert client.text == "one "

    async def test_when_the_checkpoint_holds_more_than_the_log_all_of_it_is_replayed(self, world):
        chat_id, message_id = await self.orphan(world, "one ", checkpoint="one two three")
        client = await follow(world, chat_id, message_id=message_id, after=1)
        assert client.text == "one two three"
        assert client.done["characters"] == len("one two three")

    async def test_naming_nothing_still_finds_it_and_ends(self, world):
        chat_id, _ = await self.orphan(world, "one ")
        client = await follow(world, chat_id)
        assert (client.text, client.done["status"]) == ("one ", "interrupted")


async def test_with_redis_away_a_watcher_gets_the_checkpoints_and_the_end():
    world = World(MemoryChats(), ai=ScriptedAI(), checkpoint_seconds=0.01)
    first, second = asyncio.Event(), asyncio.Event()
    world.ai.script = [ReasoningDelta("hm"), "one ", first, "two", second, "!", Finish("stop")]
    world.coordination.is_away = True
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    watcher = Client()
    watching = asyncio.create_task((await world.watch(chat_id)).run(watcher))
    await watcher.has(3)
    assert watcher.text == "one "
    first.set()
    await watcher.has(4)
    second.set()
    await task
    await watching
    assert (watcher.text, watcher.done) == (client.text, client.done)
    assert watcher.names.count("start") == 1
    assert watcher.has_ids == [True] + [False] * (len(watcher.events) - 1)
    assert watcher.last_number == 0


async def test_redis_that_comes_back_is_followed_on():
    world = World(MemoryChats(), ai=ScriptedAI(), away_seconds=60)
    silence = asyncio.Event()
    world.ai.script = ["one ", silence, "two", Finish("stop")]
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    watcher = Client()
    watching = asyncio.create_task((await world.watch(chat_id)).run(watcher))
    await watcher.has(2)
    world.coordination.is_away = True
    silence.set()
    await task
    world.coordination.is_away = False
    await watching
    assert (watcher.text, watcher.done) == (client.text, client.done)


async def test_a_blip_of_redis_while_the_ai_thinks_is_no_loss_of_the_log():
    silence, live = asyncio.Event(), MemoryCoordination()
    world = World(MemoryChats(), live, ScriptedAI("before ", silence, "after", Finish("stop")), away_seconds=1)
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    watcher = Client()
    following = await world.watch(chat_id)
    watching = asyncio.create_task(following.run(watcher))
    await watcher.has(2)
    await asyncio.sleep(1.1)  # the AI thinks
    live.is_away = True
    await asyncio.sleep(0.15)
    live.is_away = False
    silence.set()
    await asyncio.gather(task, watching)
    assert watcher.events == client.events
    assert all(watcher.has_ids)


async def go_on(world: World, chat_id: str, client: Client) -> None:
    """Come back as the client does, with the id it saw last, and follow to the end."""
    wanted = FollowRequest(client.start["messageId"], after=client.last_number)
    await (await world.watch(chat_id, wanted=wanted)).run(client)


async def test_who_was_cut_while_redis_was_away_gets_no_text_twice_when_it_is_back():
    """The log's numbers do not count what came from MySQL: resuming after the last of them doubled the text."""
    first, second = asyncio.Event(), asyncio.Event()
    ai = ScriptedAI("one ", "two ", first, "three ", second, "four", Finish("stop"))
    world = World(MemoryChats(), ai=ai, checkpoint_seconds=0.01, away_seconds=0.05)
    chat_id = await world.new_chat()
    owner, task = await world.begin(chat_id)
    watcher = Client()
    watching = asyncio.create_task((await world.watch(chat_id)).run(watcher))
    await watcher.has(3)
    assert watcher.last_number == 3
    world.coordination.is_away = True
    first.set()
    await until(lambda: watcher.text == "one two three ")
    watching.cancel()
    await asyncio.wait([watching])
    world.coordination.is_away = False
    second.set()
    await task
    await go_on(world, chat_id, watcher)
    assert (watcher.text, watcher.done) == (owner.text, owner.done)


async def test_who_was_cut_in_a_replay_while_redis_was_away_gets_all_of_it_when_it_is_back(world):
    chat_id = await world.new_chat()
    whole = await world.ask(chat_id)
    client = Client()
    client(whole.events[:3])
    world.coordination.is_away = True
    replayed = await follow(world, chat_id, message_id=whole.start["messageId"], after=client.last_number)
    client(replayed.events[:1], replayed.has_ids[0])
    client(replayed.events[1:2], False)
    world.coordination.is_away = False
    await go_on(world, chat_id, client)
    assert (client.text, client.done) == (whole.text, whole.done)


async def test_who_was_cut_in_a_replay_of_an_answer_whose_log_was_yet_to_end_gets_no_text_twice(world):
    """Found by an adversarial reader: the owner has committed the end, and its way to Redis is slow."""
    chat_id = await world.new_chat()
    whole = await world.ask(chat_id)
    message_id = whole.start["messageId"]
    log = world.coordination.logs[message_id]
    client = Client()
    client(whole.events[:3])
    world.coordination.logs[message_id] = log[:3]
    replayed = await follow(world, chat_id, message_id=message_id, after=client.last_number)
    for event, has_id in list(zip(replayed.events, replayed.has_ids, strict=True))[:-1]:
        client([event], has_id)
    world.coordination.logs[message_id] = log
    await go_on(world, chat_id, client)
    assert (client.text, client.done) == (whole.text, whole.done)


async def test_a_checkpoint_that_comes_late_doubles_nothing():
    """Found by an adversarial reader: a shorter text became what the next one was compared with."""
    world = World(MemoryChats(), ai=ScriptedAI(), checkpoint_seconds=60)
    end = asyncio.Event()
    world.ai.script = ["abcdef", end, Finish("stop")]
    world.coordination.is_away = True
    chat_id = await world.new_chat()
    owner, task = await world.begin(chat_id)
    await owner.has(2)
    generation = world.coordination.lines[0]
    token = (await world.chats.find_answer(chat_id, owner.start["messageId"])).owner_token
    watcher = Client()
    watching = asyncio.create_task((await world.watch(chat_id)).run(watcher))
    for text, reasoning in (("abc", "hm"), ("a", ""), ("abcd", "hm!")):
        partial = Answer(generation.answer.identity)
        partial.begin()
        partial.append_text(text)
        if reasoning:
            partial.append_reasoning(reasoning)
        await world.chats.checkpoint(partial, token, world.clock())
        world.chats.asked = 0
        await until(lambda: world.chats.asked >= 2)
    assert watcher.text == "abcd"
    watching.cancel()
    await asyncio.wait([watching])
    end.set()
    await task
