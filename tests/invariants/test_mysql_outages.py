"""Invariant 8: without MySQL nothing is begun; what was begun goes on, and its end is stored when MySQL is back."""

import asyncio
import sqlite3
from collections.abc import Callable

import pytest
from sqlalchemy import event

from chat.application.cancel_answer import NotActive
from chat.application.follow_answer import FollowRequest
from chat.domain.errors import StorageUnavailable
from chat.domain.model import Status, new_id
from tests.kit import counts
from tests.kit.fleet import Process
from tests.kit.gated import Gated
from tests.kit.proxy import Proxy
from tests.kit.waiting import until
from tests.kit.world import Client

SECONDS = 20
"""Catches an unbounded wait."""
NEVER_SECONDS = 60
"""A statement's patience where a test ends the waiting itself."""
HASTE_SECONDS = 0.1


class HeldFile:
    """SQLite whose writers wait in vain: another connection holds its lock. It is the same whether frozen or gone."""

    def __init__(self, url: str) -> None:
        self._file = url
        self._holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)

    def url(self, wait_seconds: float | None = None) -> str:
        return f"{self._file}?timeout={wait_seconds or HASTE_SECONDS}"

    def freeze(self) -> None:
        self._holder.execute("BEGIN IMMEDIATE")

    refuse = freeze

    def restore(self) -> None:
        if self._holder.in_transaction:
            self._holder.execute("ROLLBACK")

    def close(self) -> None:
        self._holder.close()


class ProxiedServer:
    """MySQL by way of a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.freeze, self.refuse = proxy.freeze, proxy.refuse

    def url(self, wait_seconds: float | None = None) -> str:
        patience = f"?read_timeout={wait_seconds}&connect_timeout={wait_seconds}" if wait_seconds else ""
        return f"{self._proxy.url}{patience}"

    def restore(self) -> None:
        self._proxy.accept()
        self._proxy.thaw()


@pytest.fixture
async def database(stores):
    """The database, as something that can be disturbed."""
    if stores.database_url.startswith("sqlite"):
        held = HeldFile(stores.database_url)
        try:
            yield held
        finally:
            held.close()
        return
    async with Proxy(stores.database_url) as proxy:
        yield ProxiedServer(proxy)


@pytest.fixture(params=["refuse", "freeze"])
def take_away(request, database) -> Callable[[], None]:
    """Each way to lose the database."""
    return getattr(database, request.param)


def tries(process: Process) -> list[str]:
    """Return a list that grows with every statement and every new connection."""
    told = process.statements()
    event.listen(process.engine, "do_connect", lambda *_: told.append("connect"))
    return told


async def test_away_at_the_start_is_503_and_no_ai_call(fleet, ai, database, take_away):
    """Invariant 8: refused at once or after a bounded wait; nothing is begun then or later."""
    process, healthy = await fleet.process(database_url=database.url()), await fleet.process()
    chat_id = await process.new_chat()
    message = new_id()
    take_away()
    for _ in range(counts.of(3)):
        async with asyncio.timeout(SECONDS):
            with pytest.raises(StorageUnavailable):  # a 503
                await process.send(chat_id, "hello", message=message)
    assert not ai.calls
    database.restore()
    assert await healthy.chats.find_answer_to(chat_id, message) is None


async def test_back_within_the_budget_the_end_is_stored_before_done(fleet, ai, database):
    """Invariant 8: the end is tried again."""
    owner, healthy = await fleet.process(database_url=database.url(), store_seconds=SECONDS), await fleet.process()
    answer = await Gated(ai, owner).begin()
    database.refuse()
    tried = tries(owner)
    ending = asyncio.create_task(answer.end())
    await until(lambda: len(tried) > 5)  # more than the adapter's own attempts at one statement
    assert "done" not in answer.client.names
    database.restore()
    assert "saved" not in (await ending).done
    stored = await healthy.stored(answer.client)
    assert (stored.status, stored.text) == (Status.COMPLETED, answer.text)


async def parked(fleet, ai, database, take_away) -> tuple[Gated, Process]:
    """Return an answer that ended while the database was away, which is back now, and another process."""
    owner, other = await fleet.process(database_url=database.url(), store_seconds=0.5), await fleet.process()
    answer = await Gated(ai, owner).begin(message=new_id())
    await answer.hear(2)
    take_away()
    client = await answer.end()
    assert (client.text, client.done["status"], client.done["saved"]) == (answer.text, "completed", False)
    owner_status = await other.coordination.owner_status(answer.chat_id, client.start["messageId"])
    assert owner_status.stashed_final.text == answer.text
    assert "final_parked" in owner.telemetry.kinds()
    database.restore()
    return answer, other


async def by_the_next_send(answer: Gated, process: Process) -> None:
    """The same session is not held up by an answer that has ended."""
    following = Gated(answer.ai, process)
    following.chat_id = answer.chat_id
    await following.begin()
    assert (await following.end()).text == following.text


async def by_the_same_message(answer: Gated, process: Process) -> None:
    message_id = answer.client.start["userMessageId"]
    client = await process.ask(answer.chat_id, message=message_id)
    assert (client.text, client.done["status"]) == (answer.text, "completed")
    assert len(answer.ai.calls) == 1


async def by_a_watcher(answer: Gated, process: Process) -> None:
    following = await process.watch(answer.chat_id, wanted=FollowRequest(message_id=answer.client.start["messageId"]))
    watcher = Client()
    async with asyncio.timeout(SECONDS):
        await following.run(watcher)
    assert (watcher.text, watcher.done["status"]) == (answer.text, "completed")


async def by_a_cancel(answer: Gated, process: Process) -> None:
    outcome = await process.cancel(answer.chat_id, message_id=answer.client.start["messageId"])
    assert outcome == NotActive()


FINDERS = [by_the_next_send, by_the_same_message, by_a_watcher, by_a_cancel]


@pytest.mark.parametrize("find", FINDERS)
@pytest.mark.parametrize("by_owner", [True, False], ids=["owner", "other"])
async def test_an_end_that_was_parked_is_stored_by_whoever_looks_next(fleet, ai, database, find, by_owner):
    """Invariant 8: `saved: false`, kept in Redis, recovered with identical text, in any process."""
    for _ in range(counts.of(10)):
        ai.calls.clear()
        answer, other = await parked(fleet, ai, database, database.refuse)
        await find(answer, answer.process if by_owner else other)
        stored = await other.stored(answer.client)
        assert (stored.status, stored.text) == (Status.COMPLETED, answer.text)


async def test_an_end_that_a_silent_server_did_not_take_is_stored_once(fleet, ai, database):
    """Invariant 8: the statement that was given up may still arrive."""
    answer, other = await parked(fleet, ai, database, database.freeze)
    await by_a_watcher(answer, other)
    stored = await other.stored(answer.client)
    assert (stored.status, stored.text) == (Status.COMPLETED, answer.text)


async def test_with_both_stores_away_the_client_has_it_all_and_knows_that_it_is_not_stored(
    fleet, stores, ai, database, take_away
):
    """Invariant 8: what nobody kept is not said to be saved."""
    async with Proxy(stores.redis_url) as redis:
        owner = await fleet.process(redis.url, database.url(), store_seconds=0.5)
        answer = await Gated(ai, owner).begin()
        await answer.hear(2)
        redis.refuse()
        take_away()
        client = await answer.end()
        assert (client.text, client.done["status"], client.done["saved"]) == (answer.text, "completed", False)
        assert "final_lost" in owner.telemetry.kinds()
        database.restore()


async def test_no_word_of_any_answer_waits_for_a_checkpoint_that_hangs(fleet, ai, database):
    """Invariant 8: the words come while the statements of all the answers get no reply."""
    owner = await fleet.process(database_url=database.url(NEVER_SECONDS), checkpoint_seconds=0.05)
    answers = [await Gated(ai, owner, 12).begin() for _ in range(3)]
    await asyncio.gather(*(answer.hear(2) for answer in answers))
    database.freeze()
    tried = tries(owner)
    await until(lambda: len(tried) >= 2)
    await asyncio.gather(*(answer.hear(8) for answer in answers))
    assert "checkpoint_missed" not in owner.telemetry.kinds()
    database.restore()
    for answer in answers:
        client = await answer.end()
        assert (client.text, "saved" in client.done) == (answer.text, False)
        assert (await owner.stored(client)).text == answer.text


async def test_away_only_in_mid_answer_costs_checkpoints_and_nothing_else(fleet, ai, database):
    """Invariant 8: an outage that ends before the answer does leaves no trace in it."""
    owner = await fleet.process(database_url=database.url(), checkpoint_seconds=0.05)
    answer = await Gated(ai, owner, 12).begin()
    await answer.hear(2)
    database.refuse()
    await until(lambda: "checkpoint_missed" in owner.telemetry.kinds())
    await answer.hear(6)
    database.restore()

    async def is_checkpointed() -> bool:
        return (await owner.stored(answer.client)).text == "".join(answer.words[:8])

    await until(is_checkpointed)
    client = await answer.end()
    assert (client.text, "saved" in client.done) == (answer.text, False)
    assert (await owner.stored(client)).text == answer.text
