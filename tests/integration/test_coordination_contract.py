"""What the use cases expect of coordination: in memory, on fakeredis and on every real server; and what only a real one
can show."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from chat.adapters.redis import final_records, keys
from chat.adapters.redis.coordination import MAX_EVENTS, RedisCoordination
from chat.adapters.redis.servers import RedisServers, open_servers
from chat.domain.answer import Answer
from chat.domain.errors import StorageUnavailable
from chat.domain.model import AnswerIds, FinalAnswer, Outcome, Source, Status, Usage, new_id
from chat.settings import Secret
from tests.kit.coordination import MemoryCoordination
from tests.kit.fake_redis import FakeServers
from tests.kit.redis_servers import EVERY_REDIS, own_server, redis_address
from tests.kit.waiting import until


@asynccontextmanager
async def real_coordination(url: str):
    async with coordinated(open_servers(Secret(url))) as coordination:
        yield coordination


@asynccontextmanager
async def coordinated(servers: RedisServers):
    coordination = RedisCoordination(servers, 7200)
    try:
        yield coordination
    finally:
        await coordination.close()


@pytest.fixture(params=["memory", "fakeredis", *EVERY_REDIS])
async def coordination(request: pytest.FixtureRequest):
    if request.param == "memory":
        yield MemoryCoordination()
        return
    if request.param == "fakeredis":
        async with coordinated(FakeServers()) as coordination:
            yield coordination
        return
    async with real_coordination(redis_address(request)) as coordination:
        yield coordination


class Owner:
    """An answer and its line."""

    def __init__(self, coordination, chat_id: str | None = None, session_id: str = "phone") -> None:
        self.answer = Answer(AnswerIds(chat_id or new_id(), new_id(), new_id(), session_id, "model"))
        self.who = self.answer.identity
        self.cancelled = asyncio.Event()
        self.line = coordination.claim(self.answer, "token", "user", self.cancelled.set)
        self.ids = (self.who.chat_id, self.who.message_id)

    async def start(self, look_for_intent: bool = True) -> bool:
        self.answer.begin()
        return await self.line.register(look_for_intent)

    async def end(self) -> None:
        self.answer.end(Outcome(Status.COMPLETED, "stop"), Usage(1, 1))
        await self.line.release()
        await self.line.close()


def final() -> FinalAnswer:
    ending = Outcome(Status.FAILED, None, "ai_error")
    return FinalAnswer(ending, "안녕 \x00👋", "hm", [Source("t", "https://u")], Usage(1, 2, True), datetime.now(UTC))


async def test_an_owner_is_alive_from_registration_to_conclusion(coordination):
    owner = Owner(coordination)
    assert not (await coordination.owner_status(*owner.ids)).is_alive
    assert not await owner.start()
    assert (await coordination.owner_status(*owner.ids)).is_alive
    await owner.end()
    assert not (await coordination.owner_status(*owner.ids)).is_alive


async def test_a_cancel_before_registration_is_found_by_it(coordination):
    owner = Owner(coordination)
    await coordination.request_cancel(*owner.ids, "laptop")
    assert await owner.start()
    await owner.end()


async def test_a_cancel_after_registration_is_heard(coordination):
    owner = Owner(coordination)
    assert not await owner.start()
    await coordination.request_cancel(*owner.ids, "laptop")
    async with asyncio.timeout(10):
        await owner.cancelled.wait()
    await owner.end()


async def test_a_cancel_stops_nobody_else(coordination):
    owner, other, same_chat = Owner(coordination), Owner(coordination), None
    same_chat = Owner(coordination, owner.who.chat_id, "laptop")
    for each in (owner, other, same_chat):
        assert not await each.start()
    await coordination.request_cancel(*owner.ids, "laptop")
    async with asyncio.timeout(10):
        await owner.cancelled.wait()
    assert not other.cancelled.is_set()
    assert not same_chat.cancelled.is_set()
    for each in (owner, other, same_chat):
        await each.end()


async def test_an_intent_is_found_by_the_first_answer_only(coordination):
    owner = Owner(coordination)
    await coordination.put_pending_cancel(owner.who.chat_id, owner.who.user_message_id, "laptop")
    assert not await owner.start(look_for_intent=False)
    await owner.end()
    again = Owner(coordination, owner.who.chat_id)
    await coordination.put_pending_cancel(again.who.chat_id, again.who.user_message_id, "laptop")
    assert await again.start(look_for_intent=True)
    await again.end()


async def test_an_intent_can_be_withdrawn(coordination):
    owner = Owner(coordination)
    await coordination.put_pending_cancel(owner.who.chat_id, owner.who.user_message_id, "laptop")
    await coordination.delete_pending_cancel(owner.who.chat_id, owner.who.user_message_id)
    assert not await owner.start()
    await owner.end()


async def test_the_log_holds_every_event_and_then_the_end(coordination):
    owner = Owner(coordination)
    await owner.start()
    for delta in ["안", "녕", "\n\ndata: x", "👋\x00"]:
        owner.answer.append_text(delta)

    async def logged():
        page = await coordination.read(*owner.ids, 0)
        return page is not None and len(page.events) == 5 and page

    page = await until(logged)
    assert (list(page.events), page.ended) == (owner.answer.events, False)
    await owner.end()
    page = await coordination.read(*owner.ids, 3)
    assert (list(page.events), page.ended) == (owner.answer.events[3:], True)


async def test_a_reader_at_the_end_of_the_log_gets_an_empty_page(coordination):
    owner = Owner(coordination)
    await owner.start()
    await until(lambda: coordination.read(*owner.ids, 0))
    page = await coordination.read(*owner.ids, 7)
    assert (list(page.events), page.ended) == ([], False)
    await owner.end()


async def test_without_a_log_there_is_none(coordination):
    assert await coordination.read(new_id(), new_id(), 0) is None


async def test_a_parked_record_comes_back_as_it_was_and_can_be_forgotten(coordination):
    owner = Owner(coordination)
    await owner.start()
    record = final()
    assert await owner.line.stash_final(record)
    assert (await coordination.owner_status(*owner.ids)).stashed_final == record
    await coordination.delete_stashed_final(*owner.ids)
    assert (await coordination.owner_status(*owner.ids)).stashed_final is None
    await owner.end()


@pytest.mark.parametrize(
    "record",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"status":"completed"}',
        final_records.dump(final()).replace('"failed"', '"sleeping"'),
        final_records.dump(final()).replace('"failed"', '"streaming"'),
        final_records.dump(final()).replace('"usage":[', '"usage":["many",'),
        final_records.dump(final()).replace('"text":"', '"text":1,"was":"'),
        final_records.dump(final()).replace('"finishedAt"', '"endedAt"'),
    ],
    ids=range(12),
)
async def test_a_parked_record_that_cannot_be_read_counts_as_none_and_is_logged(record, caplog):
    async with coordinated(FakeServers()) as coordination:
        owner = Owner(coordination)
        await owner.start()
        await coordination.client.run(("SET", keys.final(*owner.ids), record))
        status = await coordination.owner_status(*owner.ids)
        assert status is not None
        assert (status.is_alive, status.stashed_final) == (True, None)
        told = [line for line in caplog.records if "cannot be read" in line.message]
        assert [line.messageId for line in told] == ([owner.ids[1]] if record else [])
        await owner.end()


async def test_active_answers_are_counted(coordination):
    """At least: others may use the same server."""
    owners = [Owner(coordination) for _ in range(3)]
    for owner in owners:
        await owner.start()
    assert await coordination.count_active() >= 3
    for owner in owners:
        await owner.end()


async def test_active_answers_alone_are_counted():
    with own_server() as server:
        async with real_coordination(server.url) as coordination:
            owners = [Owner(coordination) for _ in range(3)]
            assert await coordination.count_active() == 0
            for number, owner in enumerate(owners, 1):
                await owner.start()
                assert await coordination.count_active() == number
            await owners[0].end()
            assert await coordination.count_active() == 2
            for owner in owners[1:]:
                await owner.end()


class TestRealServer:
    """What only a real server can show."""

    @pytest.mark.parametrize("turns", range(1, 6))
    async def test_closing_leaves_nothing_behind_although_it_is_cancelled(self, redis_url, turns):
        """Found by an adversarial reader: the watch stayed, and with it the subscription's reader, for ever."""
        async with real_coordination(redis_url) as coordination:
            before = asyncio.all_tasks()
            owner = Owner(coordination)
            await owner.start()
            closing = asyncio.create_task(owner.line.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            await until(lambda: asyncio.all_tasks() == before)

    async def test_who_begins_to_watch_while_the_last_watch_ends_hears(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            first = Owner(coordination)
            await first.start()
            closing = asyncio.create_task(first.line.close())
            await asyncio.sleep(0)
            closing.cancel()
            second = Owner(coordination)
            await asyncio.wait([closing])
            assert await second.line._watch.acknowledged()
            await second.line.close()

    async def test_every_key_expires_and_carries_the_chats_tag(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await coordination.put_pending_cancel(owner.who.chat_id, new_id(), "laptop")
            await owner.start()
            await owner.line.stash_final(final())
            await coordination.request_cancel(*owner.ids, "laptop")
            await until(lambda: coordination.read(*owner.ids, 0))
            client = Redis.from_url(redis_url)
            names = [key async for key in client.scan_iter(f"chat:{{{owner.who.chat_id}}}:*", count=1000)]
            kinds = {name.decode().split(":")[2] for name in names}
            assert kinds == {"session", "lease", "cancel", "intent", "intents", "final", "events"}
            lives = [await client.ttl(name) for name in names]
            assert all(0 < life <= 7200 for life in lives)
            await owner.end()
            await client.aclose()

    async def test_sessions_of_one_chat_are_independent_and_a_later_answer_is_not_released(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            first = Owner(coordination)
            other = Owner(coordination, first.who.chat_id, "laptop")
            await first.start()
            await other.start()
            second = Owner(coordination, first.who.chat_id)
            await second.start()
            await first.end()
            client = Redis.from_url(redis_url)
            phone = await client.hgetall(keys.session(first.who.chat_id, "phone"))
            laptop = await client.hgetall(keys.session(first.who.chat_id, "laptop"))
            assert phone[b"active"].decode() == second.who.message_id
            assert laptop[b"active"].decode() == other.who.message_id
            assert phone[b"user"] == b"user"
            await second.end()
            assert b"active" not in await client.hgetall(keys.session(first.who.chat_id, "phone"))
            await other.end()
            await client.aclose()

    async def test_a_lost_message_is_made_up_for_by_the_poll(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await owner.start()
            client = Redis.from_url(redis_url)
            await client.set(keys.cancel(*owner.ids), "{}", ex=60)  # the key without the message
            async with asyncio.timeout(10):
                await owner.cancelled.wait()
            await owner.end()
            await client.aclose()

    async def test_a_message_is_heard_without_the_key(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await owner.start()
            client = Redis.from_url(redis_url)
            assert await client.publish(keys.cancel(*owner.ids), "{}") == 1
            async with asyncio.timeout(10):
                await owner.cancelled.wait()
            await owner.end()
            await client.aclose()

    async def test_a_lost_log_is_written_again_from_its_beginning(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await owner.start()
            owner.answer.append_text("before")
            await until(lambda: coordination.read(*owner.ids, 1))
            client = Redis.from_url(redis_url)
            await client.delete(keys.events(*owner.ids))
            owner.answer.append_text("after")

            async def whole():
                page = await coordination.read(*owner.ids, 0)
                return page is not None and len(page.events) == 3

            await until(whole)
            await client.delete(keys.events(*owner.ids))
            await owner.end()  # lost again at the very end
            page = await coordination.read(*owner.ids, 0)
            assert (list(page.events), page.ended) == (owner.answer.events, True)
            await client.aclose()

    async def test_many_answers_share_two_connections(self):
        with own_server() as server:
            client = Redis.from_url(server.url)
            async with real_coordination(server.url) as coordination:
                owners = [Owner(coordination) for _ in range(50)]
                await asyncio.gather(*(owner.start() for owner in owners))
                assert (await client.info("clients"))["connected_clients"] == 2 + 1
                await asyncio.gather(*(owner.end() for owner in owners))
            await client.aclose()

    async def test_nothing_runs_when_nobody_is_attached(self, redis_url):
        before = asyncio.all_tasks()
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await owner.start()
            await owner.end()
            assert asyncio.all_tasks() == before

    async def test_the_count_of_active_answers_expires_and_forgets_the_dead(self):
        with own_server() as server:
            client = Redis.from_url(server.url)
            await client.zadd(keys.ACTIVE, {"dead": 1.0})
            async with real_coordination(server.url) as coordination:
                owner = Owner(coordination)
                await owner.start()
                assert await client.zrange(keys.ACTIVE, 0, -1) == [owner.who.message_id.encode()]
                assert 0 < await client.ttl(keys.ACTIVE) <= 7200
                await owner.end()
            await client.aclose()

    async def test_what_redis_has_no_room_for_is_not_sent_at_every_beat(self):
        with own_server() as server:
            client = Redis.from_url(server.url)
            async with real_coordination(server.url) as coordination:
                owner = Owner(coordination)
                await owner.start()
                await client.config_set("maxmemory", 1)
                for _ in range(1000):
                    owner.answer.append_text("x" * 1000)
                before = (await client.info("stats"))["total_net_input_bytes"]
                await asyncio.sleep(1.5)
                assert (await client.info("stats"))["total_net_input_bytes"] - before < 4_000_000
                await client.config_set("maxmemory", 0)

                async def whole():
                    page = await coordination.read(*owner.ids, 0)
                    return page is not None and len(page.events) == 1001

                await until(whole)
                await owner.end()
            await client.aclose()

    async def test_what_has_heaped_up_is_logged_in_parts(self, redis_url):
        async with real_coordination(redis_url) as coordination:
            owner = Owner(coordination)
            await owner.start()
            for _ in range(2 * MAX_EVENTS + 10):
                owner.answer.append_text("x")

            async def whole():
                page = await coordination.read(*owner.ids, 0)
                return page is not None and len(page.events) == len(owner.answer.events)

            await until(whole)
            client = Redis.from_url(redis_url)
            entries = await client.xrange(keys.events(*owner.ids))
            assert max(len(fields[b"e"].split(b"\n")) for _, fields in entries) == MAX_EVENTS
            await owner.end()
            await client.aclose()

    @pytest.mark.parametrize("ticks", range(6))
    async def test_who_watches_while_the_last_one_leaves_is_heard_by_one_reader(self, redis_url, ticks):
        async with real_coordination(redis_url) as coordination:
            before = asyncio.all_tasks()
            heard = asyncio.Event()
            await coordination.subscription.watch("one", lambda: None).acknowledged()
            leaving = asyncio.create_task(coordination.subscription.unwatch("one"))
            for _ in range(ticks):
                await asyncio.sleep(0)
            assert await coordination.subscription.watch(f"other-{ticks}", heard.set).acknowledged()
            await leaving
            assert len(asyncio.all_tasks() - before) == 1
            client = Redis.from_url(redis_url)
            await client.publish(f"other-{ticks}", "{}")
            async with asyncio.timeout(10):
                await heard.wait()
            await client.aclose()

    async def test_a_listener_that_fails_harms_no_other(self, redis_url, caplog):
        def fail() -> None:
            raise RuntimeError("a bug")

        async with real_coordination(redis_url) as coordination:
            heard, names = asyncio.Event(), [new_id(), new_id()]
            await coordination.subscription.watch(names[0], fail).acknowledged()
            await coordination.subscription.watch(names[1], heard.set).acknowledged()
            client = Redis.from_url(redis_url)
            for name in names:
                await client.publish(name, "{}")
            async with asyncio.timeout(10):
                await heard.wait()
            await client.aclose()
        assert "a listener failed" in caplog.text


class TestRedisAway:
    """With Redis away everything goes on, and waits are bounded."""

    async def test_refusing(self):
        async with real_coordination("redis://127.0.0.1:1/0") as coordination:
            owner = Owner(coordination)
            assert not await owner.start()
            assert await coordination.owner_status(*owner.ids) is None
            assert not await owner.line.stash_final(final())
            assert await coordination.count_active() is None
            for call in (
                coordination.request_cancel(*owner.ids, "x"),
                coordination.put_pending_cancel(*owner.ids, "x"),
                coordination.ping(),
            ):
                with pytest.raises(StorageUnavailable):
                    await call
            with pytest.raises(StorageUnavailable):
                await coordination.read(*owner.ids, 0)
            await owner.end()

    async def test_killed_and_back_with_nothing_it_gets_everything_again(self):
        with own_server() as server:
            async with real_coordination(server.url) as coordination:
                owner = Owner(coordination)
                await owner.start()
                owner.answer.append_text("one")
                await until(lambda: coordination.read(*owner.ids, 0))
                server.kill()
                owner.answer.append_text("two")
                await until(lambda: coordination.client.is_unavailable)
                server.start_again()
                owner.answer.append_text("three")

                async def whole():
                    try:
                        page = await coordination.read(*owner.ids, 0)
                    except StorageUnavailable:
                        return False
                    return page is not None and len(page.events) == 4

                await until(whole)
                await coordination.request_cancel(*owner.ids, "laptop")
                async with asyncio.timeout(10):
                    await owner.cancelled.wait()
                await owner.end()

    async def test_frozen_it_costs_bounded_waits_and_afterwards_goes_on(self):
        with own_server() as server:
            async with real_coordination(server.url) as coordination:
                owner = Owner(coordination)
                await owner.start()
                server.freeze()
                loop = asyncio.get_running_loop()
                began = loop.time()
                late = Owner(coordination)
                assert not await late.start()
                late.answer.append_text("into silence")
                await late.end()
                assert loop.time() - began < 2
                server.thaw()
                owner.answer.append_text("again")

                async def logged():
                    try:
                        page = await coordination.read(*owner.ids, 1)
                    except StorageUnavailable:
                        return False
                    return page is not None and page.events

                await until(logged)
                await owner.end()
