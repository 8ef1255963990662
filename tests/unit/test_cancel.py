"""Cancels neither miss nor hit the wrong answer."""

import asyncio

import pytest

from chat.application.cancel_answer import Cancelled, Cancelling, NotActive
from chat.application.ports import Finish
from chat.domain.errors import AnswerFailed, ChatNotFound, FailureCode, StorageUnavailable
from chat.domain.model import Status, new_id
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.world import World


@pytest.fixture
def world() -> World:
    return World(MemoryChats(), ai=ScriptedAI("partial ", "text", asyncio.Event()))


async def running(world: World, **more):
    chat_id = more.pop("chat_id", None) or await world.new_chat()
    client, task = await world.begin(chat_id, **more)
    await client.has(3)
    return chat_id, client, task


async def test_by_session_it_stores_the_partial_text_and_closes_the_ai_while_it_is_silent(world):
    chat_id, client, task = await running(world)
    outcome = await world.cancel(chat_id)
    await task
    assert isinstance(outcome, Cancelled)
    assert outcome.answer.text == client.text == "partial text"
    assert client.done["status"] == "cancelled"
    assert client.names[-2:] == ["", "done"]
    assert world.ai.left == 1


async def test_a_second_cancel_says_the_same(world):
    chat_id, client, task = await running(world)
    message_id = client.start["messageId"]
    first = await world.cancel(chat_id, message_id=message_id)
    await task
    assert await world.cancel(chat_id, message_id=message_id) == first


async def test_another_session_is_left_alone(world):
    chat_id, phone, phone_task = await running(world, session="phone")
    _, laptop, laptop_task = await running(world, chat_id=chat_id, session="laptop")
    await world.cancel(chat_id, "phone")
    await phone_task
    assert not laptop_task.done()
    assert isinstance(await world.cancel(chat_id, "tablet"), NotActive)
    assert not laptop_task.done()
    await world.cancel(chat_id, "tablet", message_id=laptop.start["messageId"])
    await laptop_task
    assert (phone.done["status"], laptop.done["status"]) == ("cancelled", "cancelled")


async def test_by_user_message_while_it_streams(world):
    message = new_id()
    chat_id, client, task = await running(world, message=message)
    assert isinstance(await world.cancel(chat_id, user_message_id=message), Cancelled)
    await task
    assert client.done["status"] == "cancelled"


async def test_by_user_message_before_it_arrives_the_ai_is_never_called(world):
    chat_id, message = await world.new_chat(), new_id()
    assert await world.cancel(chat_id, user_message_id=message) == Cancelling(None)
    client = await world.ask(chat_id, message=message)
    assert client.names == ["start", "done"]
    assert client.done["status"] == "cancelled"
    assert not world.ai.calls


async def test_an_intent_waits_for_its_message_only(world):
    chat_id = await world.new_chat()
    await world.cancel(chat_id, user_message_id=new_id())
    _, _, task = await running(world, chat_id=chat_id)
    assert not task.done()
    await world.cancel(chat_id)
    await task


async def test_a_message_that_arrives_between_the_look_and_the_intent_is_cancelled(world):
    """The row is stored, and the intent looked for, after the cancel's first look and before its intent."""
    chat_id, message = await world.new_chat(), new_id()
    leave = world.coordination.put_pending_cancel
    arrived: list = []

    async def late(*args):
        arrived.append(await running(world, chat_id=chat_id, message=message))
        await leave(*args)

    world.coordination.put_pending_cancel = late
    outcome = await world.cancel(chat_id, user_message_id=message)
    assert isinstance(outcome, Cancelled)
    await arrived[0][2]
    assert not world.coordination.intents


async def test_a_cancel_of_an_ended_answer_does_not_reach_its_retry(world):
    world.ai.script = ["half", AnswerFailed(FailureCode.AI_ERROR)]
    chat_id, message = await world.new_chat(), new_id()
    failed = await world.ask(chat_id, message=message)
    assert await world.cancel(chat_id, message_id=failed.start["messageId"]) == NotActive()
    assert await world.cancel(chat_id, user_message_id=message) == NotActive()
    world.ai.script = ["whole", Finish("stop")]
    retried = await world.ask(chat_id, message=message)
    assert retried.done["status"] == "completed"


async def test_an_intent_that_the_first_answer_never_read_does_not_reach_its_retry(world):
    world.ai.script = ["half", AnswerFailed(FailureCode.AI_ERROR)]
    chat_id, message = await world.new_chat(), new_id()
    assert (await world.ask(chat_id, message=message)).done["status"] == "failed"
    await world.coordination.put_pending_cancel(chat_id, message, "phone")
    world.ai.script = ["whole", Finish("stop")]
    assert (await world.ask(chat_id, message=message)).done["status"] == "completed"


async def test_a_cancel_of_a_completed_answer_changes_nothing(world):
    world.ai.script = ["whole", Finish("stop")]
    chat_id = await world.new_chat()
    client = await world.ask(chat_id)
    assert await world.cancel(chat_id, message_id=client.start["messageId"]) == NotActive()
    assert (await world.stored(client)).status is Status.COMPLETED


async def test_nothing_to_cancel(world):
    chat_id = await world.new_chat()
    assert await world.cancel(chat_id) == NotActive()
    assert await world.cancel(chat_id, message_id=new_id()) == NotActive()


async def test_without_a_user_the_session_must_be_streaming(world):
    chat_id, client, task = await running(world, session="phone")
    for session in ("laptop", "tablet"):
        with pytest.raises(ChatNotFound):
            await world.cancel(chat_id, session, user=None)
        with pytest.raises(ChatNotFound):
            await world.cancel(chat_id, session, user=None, message_id=client.start["messageId"])
    assert isinstance(await world.cancel(chat_id, "phone", user=None), Cancelled)
    await task
    with pytest.raises(ChatNotFound):
        await world.cancel(chat_id, "phone", user=None)


async def test_a_foreign_chat_and_an_unknown_one_look_the_same_and_nothing_is_touched(world):
    chat_id, client, task = await running(world)
    for chat in (chat_id, new_id()):
        for target in ({}, {"message_id": client.start["messageId"]}, {"user_message_id": new_id()}):
            with pytest.raises(ChatNotFound):
                await world.cancel(chat, user="somebody else", **target)
    assert not world.coordination.cancels
    assert not world.coordination.intents
    await world.cancel(chat_id)
    await task


async def test_with_redis_away_it_says_so_and_promises_nothing(world):
    chat_id, _, task = await running(world)
    world.coordination.is_away = True
    with pytest.raises(StorageUnavailable):
        await world.cancel(chat_id)
    with pytest.raises(StorageUnavailable):
        await world.cancel(chat_id, user_message_id=new_id())
    world.coordination.is_away = False
    await world.cancel(chat_id)
    await task


async def test_an_owner_that_does_not_store_in_time_leaves_it_cancelling():
    world = World(MemoryChats(), ai=ScriptedAI("partial ", "text", asyncio.Event()), wait_seconds=0.05)
    chat_id, client, task = await running(world)
    finish, hold = world.chats.finish, asyncio.Event()

    async def slow(*args, **more):
        await hold.wait()
        return await finish(*args, **more)

    world.chats.finish = slow
    assert await world.cancel(chat_id) == Cancelling(client.start["messageId"])
    hold.set()
    await task
    assert isinstance(await world.cancel(chat_id, message_id=client.start["messageId"]), Cancelled)


async def test_slow_looks_count_against_its_patience():
    class Slow(MemoryChats):
        is_slow = False

        async def find_answer(self, *args):
            await asyncio.sleep(0.1 * self.is_slow)
            return await super().find_answer(*args)

    chats = Slow()
    world = World(chats, ai=ScriptedAI("partial ", "text", asyncio.Event()), wait_seconds=0.2)
    chat_id, _, task = await running(world)
    deaf = list(world.coordination.lines)
    world.coordination.lines.clear()
    chats.is_slow = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert isinstance(await world.cancel(chat_id), Cancelling)
    assert loop.time() - began < 0.5
    world.coordination.lines += deaf
    await world.cancel(chat_id)
    await task
