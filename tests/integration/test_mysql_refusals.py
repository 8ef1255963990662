"""What a real MySQL refuses for good is cut until it fits; a MySQL that only reads is read from."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from sqlalchemy import event

from chat.adapters.mysql.engine import MIN_PACKET_BYTES, open_engine
from chat.adapters.mysql.repository import BESIDE_TEXTS_BYTES, SqlChatRepository
from chat.application.cancel_answer import NotActive
from chat.application.follow_answer import FollowRequest
from chat.application.ports import Finish
from chat.domain.answer_room import stored_bytes
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.model import Source, Status
from chat.settings import Secret, SettingsError
from migrations.runner import upgrade
from tests.integration.test_chats_contract import final, finish, new_chat, opening
from tests.kit.ai import ScriptedAI
from tests.kit.databases import fresh_mysql, mysql_ask
from tests.kit.redis_servers import given
from tests.kit.waiting import until
from tests.kit.world import Client, World

TEXT = "가나다라마바사아자차" * 20
SMALL_PACKET = 64 * 1024


@pytest.fixture(scope="module")
def drifted_url():
    """A database whose columns are smaller than ours, and hold to a rule that we do not know."""
    with fresh_mysql(given("MYSQL_URL")) as url:
        upgrade(url)
        mysql_ask(url, "ALTER TABLE messages MODIFY content VARCHAR(100) CHARACTER SET utf8mb4 NOT NULL")
        mysql_ask(url, "ALTER TABLE messages MODIFY reasoning VARCHAR(10) CHARACTER SET utf8mb4")
        mysql_ask(url, "ALTER TABLE message_sources ADD CONSTRAINT no_sources CHECK (position > 100)")
        yield url


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[str], SqlChatRepository]]:
    everything: list[SqlChatRepository] = []

    def open_one(url: str) -> SqlChatRepository:
        everything.append(SqlChatRepository(open_engine(Secret(url), 4)))
        return everything[-1]

    yield open_one
    for chats in everything:
        await chats.close()


async def begun(chats: SqlChatRepository):
    chat_id = await new_chat(chats)
    new = opening(chat_id)
    await chats.open_answer(new, 1000)
    return new


@pytest.mark.parametrize(
    "change",
    [
        {"text": TEXT},
        {"reasoning": "more than ten characters"},
        {"sources": [Source("a", "https://a")]},
    ],
    ids=["content", "reasoning", "sources"],
)
async def test_what_does_not_fit_a_column_or_a_rule_is_refused_and_nothing_of_it_is_stored(drifted_url, opened, change):
    chats = opened(drifted_url)
    new = await begun(chats)
    too_much = replace(final("text"), reasoning="", sources=())
    with pytest.raises(StorageRefused) as caught:
        await finish(chats, new, replace(too_much, **change))
    assert caught.value.reason in ("1406", "3819", "4025")
    stored = await chats.find_answer(new.identity.chat_id, new.identity.message_id)
    assert stored.is_active
    assert await finish(chats, new, too_much)


async def test_an_answer_that_a_small_column_refuses_is_stored_with_what_fits(drifted_url, opened):
    chats = opened(drifted_url)
    world = World(chats, ai=ScriptedAI(TEXT, Finish("stop")), checkpoint_seconds=0.05)
    chat_id = await world.new_chat()
    client = await world.ask(chat_id)
    assert client.text == TEXT
    assert (client.done["status"], client.done["truncated"], "saved" in client.done) == ("completed", True, False)
    stored = await world.stored(client)
    assert (stored.status, stored.finish_reason, stored.is_truncated) == (Status.COMPLETED, "stop", True)
    assert stored.text == TEXT[: len(TEXT) // 2]
    assert (await world.ask(chat_id, "next", session="phone")).done["truncated"]


async def test_a_checkpoint_that_a_small_column_refuses_is_written_with_what_fits(drifted_url, opened):
    chats = opened(drifted_url)
    silence = asyncio.Event()
    world = World(chats, ai=ScriptedAI(TEXT, silence, Finish("stop")), checkpoint_seconds=0.05)
    client, task = await world.begin(await world.new_chat())

    async def checkpoint() -> str:
        return (await world.stored(client)).text

    assert await until(checkpoint) == TEXT[: len(TEXT) // 2]
    assert world.telemetry.kinds().count("checkpoint_refused") == 1
    silence.set()
    await task


@pytest.fixture
def small_url(mysql_url) -> str:
    return f"{mysql_url}?max_allowed_packet={SMALL_PACKET}"


@pytest.mark.parametrize("character", ["a", "'", "가", "👍"])
async def test_an_answer_ends_before_it_outgrows_a_packet(small_url, opened, character):
    chats = opened(small_url)
    piece = character * 1000
    world = World(chats, ai=ScriptedAI(*[piece] * 100, Finish("stop")))
    client = await world.ask(await world.new_chat())
    assert (client.done["status"], client.done["finishReason"]) == ("completed", "length")
    assert "truncated" not in client.done
    assert world.ai.left == 1
    stored = await world.stored(client)
    assert stored.text == client.text == character * len(client.text)
    assert stored_bytes(stored.text) in range(SMALL_PACKET - BESIDE_TEXTS_BYTES - 10, SMALL_PACKET)


async def test_what_outgrows_a_packet_is_refused_and_breaks_no_connection(small_url, opened):
    chats = opened(small_url)
    new = await begun(chats)
    connections: list[object] = []
    event.listen(chats.database.engine, "connect", lambda connection, _: connections.append(connection))
    with pytest.raises(StorageRefused) as caught:
        await finish(chats, new, replace(final("a" * SMALL_PACKET), sources=()))
    assert caught.value.reason == "1153"
    assert await finish(chats, new, replace(final("a" * (SMALL_PACKET - BESIDE_TEXTS_BYTES)), sources=()))
    assert not connections


async def test_a_servers_own_limit_is_read_when_connecting(mysql_url, opened):
    chats = opened(mysql_url)
    assert chats.database.max_packet_bytes is None
    await chats.ping()
    assert chats.database.max_packet_bytes == mysql_ask(mysql_url, "SELECT @@max_allowed_packet")[0][0]


@pytest.mark.parametrize("wrong", ["many", "1", str(MIN_PACKET_BYTES - 1), "-5"])
def test_a_wrong_limit_is_named(wrong):
    with pytest.raises(SettingsError, match="max_allowed_packet"):
        open_engine(Secret(f"mysql://user@localhost/chat?max_allowed_packet={wrong}"))


class Demoted(SqlChatRepository):
    """MySQL that only reads while `is_read_only`, as after a failover: the server itself refuses each write."""

    def __init__(self, url: str) -> None:
        engine = open_engine(Secret(url), 4)
        super().__init__(engine)
        self.is_read_only = False
        event.listen(engine, "checkout", self._set)

    def _set(self, connection, *_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION TRANSACTION READ {'ONLY' if self.is_read_only else 'WRITE'}")


async def test_an_ended_answer_is_read_while_mysql_only_reads_and_stored_by_whoever_can(mysql_url):
    chats = Demoted(mysql_url)
    world = World(chats, ai=ScriptedAI(TEXT, Finish("stop")), store_seconds=0.3)
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    chats.is_read_only = True
    await task
    assert (client.text, client.done["saved"]) == (TEXT, False)
    world.coordination.logs.clear()
    for _ in range(2):
        following = await world.watch(chat_id, wanted=FollowRequest(message_id=client.start["messageId"]))
        reader = Client()
        await following.run(reader)
        assert (reader.text, reader.done["status"], reader.done["saved"]) == (TEXT, "completed", False)
    assert isinstance(await world.cancel(chat_id, message_id=client.start["messageId"]), NotActive)
    with pytest.raises(StorageUnavailable) as caught:
        await world.send(chat_id, "next", session="phone")
    assert not isinstance(caught.value, StorageRefused)
    chats.is_read_only = False
    await world.ask(chat_id, "next", session="phone")
    stored = await world.stored(client)
    assert (stored.status, stored.text, stored.is_saved) == (Status.COMPLETED, TEXT, True)
    await chats.close()
