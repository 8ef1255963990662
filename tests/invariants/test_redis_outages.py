"""Invariants 6 and 7: whatever becomes of Redis, answers go on, are stored, and nobody is told what is not so."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from chat.adapters.redis import keys
from chat.application.cancel_answer import Cancelled, Cancelling
from chat.domain.errors import StorageUnavailable
from chat.domain.model import Status, new_id
from tests.kit import counts
from tests.kit.ai_server import say
from tests.kit.fleet import Fleet, Stores, commands
from tests.kit.gated import Gated
from tests.kit.proxy import Proxy
from tests.kit.redis_servers import own_server
from tests.kit.waiting import until
from tests.kit.world import Client

WAITS_SECONDS = 4
"""The invariant says 2; more catches an outage that costs a wait for each round trip."""
HANGING_SECONDS = 30


async def completed(answer: Gated) -> None:
    """Hear the answer to its end, which must be the whole of it and be stored."""
    client = await answer.end()
    assert (client.text, client.done["status"], client.done.get("saved")) == (answer.text, "completed", None)
    stored = await answer.process.stored(client)
    assert (stored.status, stored.text) == (Status.COMPLETED, answer.text)


async def watching(process, answer: Gated) -> tuple[Client, asyncio.Task]:
    """Watch as another device does."""
    following = await process.watch(answer.chat_id)
    watcher = Client()
    return watcher, asyncio.create_task(following.run(watcher))


async def logged(process, answer: Gated) -> int:
    """Return how many events a reader of the log finds; none while it cannot be read."""
    try:
        page = await process.coordination.read(answer.chat_id, answer.client.start["messageId"], 0)
    except StorageUnavailable:
        return 0
    return len(page.events) if page else 0


async def told_honestly(process, answer: Gated, **target: str) -> None:
    """Cancel, and believe what is said: only a 503 allows the answer to go on."""
    try:
        outcome = await process.cancel(answer.chat_id, **target)
    except StorageUnavailable:
        return  # a 503
    assert isinstance(outcome, Cancelled | Cancelling)
    async with asyncio.timeout(20):
        await answer.streaming
    assert answer.client.done["status"] == "cancelled"


@asynccontextmanager
async def own_fleet(sqlite_url, ai):
    """A fleet on a Redis of the test's own."""
    with own_server() as server:
        async with Fleet(Stores(server.url, sqlite_url), ai) as fleet:
            yield server, fleet


class TestFrozen:
    """Redis keeps its connections and says nothing (invariant 6)."""

    async def test_no_word_waits_for_a_round_trip_that_hangs(self, fleet, stores, ai):
        """Invariant 6: words arrive one by one while one and the same round trip gets no reply."""
        async with Proxy(stores.redis_url) as proxy:
            owner, other = await fleet.process(proxy.url), await fleet.process()
            owner.coordination.client.trip_seconds = HANGING_SECONDS
            answers = [await Gated(ai, owner, 12).begin() for _ in range(counts.of(30))]
            await asyncio.gather(*(answer.hear(2) for answer in answers))
            watchers = [await watching(other, answer) for answer in answers]
            proxy.freeze()
            hanging = asyncio.create_task(
                owner.coordination.ping()
            )  # what is asked after it gets no reply before it does
            await asyncio.gather(*(answer.hear(8) for answer in answers))
            assert not hanging.done()
            proxy.thaw()
            await hanging
            for answer in answers:
                await until(lambda answer=answer: self.is_whole(other, answer))
                await completed(answer)
            for answer, (watcher, task) in zip(answers, watchers, strict=True):
                async with asyncio.timeout(20):
                    await task
                assert watcher.text == answer.text
                assert watcher.names.count("start") == 1

    async def is_whole(self, process, answer: Gated) -> bool:
        return await logged(process, answer) == 1 + answer.said

    async def test_an_outage_from_mid_answer_to_its_end_costs_bounded_waits(self, fleet, stores, ai):
        """Invariant 6: at most 2 s in all, and the answer is stored."""
        async with Proxy(stores.redis_url) as proxy:
            owner = await fleet.process(proxy.url)
            answers = [await Gated(ai, owner).begin() for _ in range(counts.of(30))]
            await asyncio.gather(*(answer.hear(1) for answer in answers))
            proxy.freeze()
            async with asyncio.timeout(WAITS_SECONDS):
                await asyncio.gather(*(completed(answer) for answer in answers))

    async def test_an_outage_of_a_whole_answer_costs_bounded_waits(self, fleet, stores, ai):
        """Invariant 6: the start's waits and the end's together."""
        ai.script(say("all"))
        async with Proxy(stores.redis_url) as proxy:
            proxy.freeze()
            owner = await fleet.process(proxy.url)
            chat_id = await owner.new_chat()
            async with asyncio.timeout(WAITS_SECONDS):
                client = await owner.ask(chat_id)
            assert (client.text, client.done.get("saved")) == ("all", None)
            assert (await owner.stored(client)).text == "all"

    async def test_a_stopped_server_that_goes_on_has_the_whole_log_again(self, sqlite_url, ai):
        """Invariant 6, by SIGSTOP: with the real limits, for longer than one of them."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            owner, other = await fleet.process(), await fleet.process(away_seconds=30)
            answer = await Gated(ai, owner, 12).begin()
            await answer.hear(2)
            watcher, task = await watching(other, answer)
            await watcher.has(3)
            server.freeze()
            await answer.hear(4)
            await until(lambda: owner.coordination.client.is_unavailable)
            await answer.hear(4)
            server.thaw()
            await until(lambda: self.is_whole(other, answer))
            await completed(answer)
            async with asyncio.timeout(20):
                await task
            assert (watcher.text, watcher.done["status"]) == (answer.text, "completed")
            assert watcher.names.count("start") == 1


class TestGone:
    """Redis refuses connections, or dies (invariant 7)."""

    async def test_refusing_from_the_start_answers_complete_and_cancels_say_503(self, fleet, stores, ai):
        """Invariant 7: the cancel that could not be delivered is not said to be."""
        async with Proxy(stores.redis_url) as proxy:
            proxy.refuse()
            owner, other = await fleet.process(proxy.url), await fleet.process(proxy.url)
            answers = [await Gated(ai, owner).begin() for _ in range(counts.of(30))]
            for answer in answers:
                await answer.hear(1)
                message_id = answer.client.start["messageId"]
                for target in ({}, {"message_id": message_id}, {"user_message_id": "not-here-yet"}):
                    with pytest.raises(StorageUnavailable):
                        await other.cancel(answer.chat_id, **target)
            for answer in answers:
                await completed(answer)

    async def test_gone_in_mid_answer_the_answer_completes_and_a_watcher_has_it_all(self, fleet, stores, ai):
        """Invariant 7: after every word."""
        for at in range(0, 6, 1 if counts.is_full() else 3):
            async with Proxy(stores.redis_url) as proxy:
                owner = await fleet.process(proxy.url, checkpoint_seconds=0.2)
                other = await fleet.process(proxy.url, away_seconds=0.2)
                answer = await Gated(ai, owner).begin()
                watcher, task = await watching(other, answer)
                await answer.hear(at)
                proxy.refuse()
                with pytest.raises(StorageUnavailable):
                    await other.cancel(answer.chat_id)
                await completed(answer)
                async with asyncio.timeout(20):
                    await task
                assert (watcher.text, watcher.done["status"]) == (answer.text, "completed")

    async def test_killed_and_back_with_nothing_the_log_is_whole_and_cancels_work(self, sqlite_url, ai):
        """Invariant 7, by the death of the server: 503 while it is dead, and afterwards all is as before."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            owner, other = await fleet.process(), await fleet.process(away_seconds=30)
            answer = await Gated(ai, owner).begin()
            watcher, task = await watching(other, answer)
            await answer.hear(2)
            server.kill()
            with pytest.raises(StorageUnavailable):
                await other.cancel(answer.chat_id)
            await answer.hear(2)
            server.start_again()
            await until(lambda: TestFrozen().is_whole(other, answer))
            assert isinstance(await other.cancel(answer.chat_id), Cancelled | Cancelling)
            async with asyncio.timeout(20):
                await asyncio.gather(answer.streaming, task)
            assert watcher.text == answer.client.text == "".join(answer.words[:4])
            assert watcher.done["status"] == answer.client.done["status"] == "cancelled"


async def flush(url: str, _: str) -> None:
    await commands(url, "FLUSHALL")


async def delete(url: str, log_key: str) -> None:
    await commands(url, "DEL", log_key)


def evict(policy: str):
    async def press(url: str, log_key: str) -> None:
        """Write more than there is room for, until the log has gone."""

        async def is_gone() -> bool:
            await commands(url, "SET", f"filler:{new_id()}", "x" * 200_000)
            return not await commands(url, "EXISTS", log_key)

        await until(lambda: commands(url, "EXISTS", log_key))
        await commands(url, "CONFIG", "SET", "maxmemory-policy", policy)
        await commands(url, "CONFIG", "SET", "maxmemory", 4_000_000)
        await until(is_gone)

    return press


LOSSES = {"flushall": flush, "lru": evict("allkeys-lru"), "random": evict("allkeys-random")}


class TestForgetful:
    """Redis loses what it was given, or has no room for more."""

    async def heard_through(self, url: str, fleet: Fleet, ai, lose) -> None:
        owner, other = await fleet.process(), await fleet.process()
        answer = await Gated(ai, owner).begin()
        watcher, task = await watching(other, answer)
        tasks, watchers = [task], [watcher]
        for _ in range(2):
            await answer.hear(2)
            await lose(url, keys.events(answer.chat_id, answer.client.start["messageId"]))
            watcher, task = await watching(other, answer)
            tasks.append(task)
            watchers.append(watcher)
        await completed(answer)
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)
        assert [(each.text, each.done["status"]) for each in watchers] == [(answer.text, "completed")] * 3

    @pytest.mark.parametrize("loss", LOSSES)
    async def test_what_is_lost_in_mid_answer_nobody_misses(self, sqlite_url, ai, loss):
        """Beside invariant 7: watchers get the whole text, or a new start and everything."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            for _ in range(counts.of(10)):
                await self.heard_through(server.url, fleet, ai, LOSSES[loss])

    async def test_a_deleted_log_nobody_misses(self, fleet, stores, ai):
        """Beside invariant 7: the same on every store."""
        for _ in range(counts.of(10)):
            await self.heard_through(stores.redis_url, fleet, ai, delete)

    async def test_a_log_that_is_lost_after_the_last_word_is_whole_at_the_end(self, fleet, stores, ai):
        """Beside invariant 7: the end alone would be a log with a hole."""
        owner = await fleet.process()
        answer = await Gated(ai, owner).begin()
        await answer.hear(len(answer.words))
        await until(lambda: TestFrozen().is_whole(owner, answer))
        message_id = answer.client.start["messageId"]
        await delete(stores.redis_url, keys.events(answer.chat_id, message_id))
        await completed(answer)
        page = await owner.coordination.read(answer.chat_id, message_id, 0)
        assert (len(page.events), page.ended) == (len(answer.words) + 2, True)

    @pytest.mark.parametrize("loss", LOSSES)
    async def test_cancels_are_honest_while_redis_forgets(self, sqlite_url, ai, loss):
        """Beside invariant 7: an acknowledged cancel ends its answer, or a 503 is said."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            owner, other = await fleet.process(), await fleet.process()
            for _ in range(counts.of(10)):
                answer = await Gated(ai, owner).begin()
                await answer.hear(1)
                await LOSSES[loss](server.url, keys.events(answer.chat_id, answer.client.start["messageId"]))
                await told_honestly(other, answer)
                if not answer.streaming.done():
                    await completed(answer)

    async def test_out_of_memory_answers_complete_and_a_watcher_has_it_all(self, sqlite_url, ai):
        """Beside invariant 7: with every write refused, from mid-answer and from the start."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            owner = await fleet.process(checkpoint_seconds=0.2)
            other = await fleet.process(away_seconds=0.2)
            before = await Gated(ai, owner).begin()
            await before.hear(2)
            await commands(server.url, "CONFIG", "SET", "maxmemory", 1)
            after = await Gated(ai, owner).begin()
            watchers = [await watching(other, answer) for answer in (before, after)]
            for answer, (watcher, task) in zip((before, after), watchers, strict=True):
                await completed(answer)
                async with asyncio.timeout(20):
                    await task
                assert (watcher.text, watcher.done["status"]) == (answer.text, "completed")

    async def test_out_of_memory_no_cancel_is_pretended(self, sqlite_url, ai):
        """Beside invariant 7: a cancel that cannot be kept is a 503, before the message's arrival as after it."""
        async with own_fleet(sqlite_url, ai) as (server, fleet):
            owner, other = await fleet.process(), await fleet.process()
            answer = await Gated(ai, owner).begin()
            await commands(server.url, "CONFIG", "SET", "maxmemory", 1)
            for target in ({"user_message_id": "not-here-yet"}, {}):
                with pytest.raises(StorageUnavailable):
                    await other.cancel(answer.chat_id, **target)
            await answer.gate.open()
            async with asyncio.timeout(20):
                await answer.streaming
            assert answer.client.done["status"] in ("cancelled", "completed")  # the message may have got through
