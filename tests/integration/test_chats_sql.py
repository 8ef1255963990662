"""What is particular to MySQL and SQLite: statements, connections, and what happens when they fail."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, insert, text, update
from sqlalchemy.exc import DBAPIError

from chat.adapters.mysql.engine import ANSWER_SECONDS, IDLE_SECONDS, open_engine
from chat.adapters.mysql.library import SqlChatLibrary
from chat.adapters.mysql.repository import SqlChatRepository
from chat.adapters.mysql.tables import chats as chats_table
from chat.adapters.mysql.tables import messages
from chat.application.ports import MessageView
from chat.domain.errors import StorageRefused, StorageUnavailable
from chat.domain.listing import Place
from chat.domain.model import (
    AlreadyAnswered,
    Chat,
    NewAnswer,
    QuestionAnswer,
    SessionBusy,
    Source,
    Started,
    Status,
    new_id,
)
from chat.settings import Secret, SettingsError
from tests.integration.test_chats_contract import (
    ENOUGH,
    NOW,
    after,
    again,
    ended,
    exchange,
    final,
    finish,
    history,
    new_chat,
    opening,
    told,
)
from tests.kit.databases import fresh_mysql, mysql_admin, mysql_ask
from tests.kit.mysql_tls import Authority, tls_in_front_of
from tests.kit.proxy import Proxy
from tests.kit.redis_servers import given
from tests.kit.waiting import until


class Watched(SqlChatRepository):
    """Real, with its engine in view, and what went over its connections."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.engine = engine
        self.statements: list[str] = []
        self.connections = 0
        self.errors: list[BaseException] = []
        event.listen(engine, "handle_error", lambda context: self.errors.append(context.original_exception))
        event.listen(engine, "before_cursor_execute", self._note_statement)
        event.listen(engine, "connect", self._note_connection)

    def _note_statement(self, _connection, _cursor, statement: str, *_: object) -> None:
        self.statements.append(statement)

    def _note_connection(self, *_: object) -> None:
        self.connections += 1

    @property
    def taken(self) -> int:
        """How many connections are in use."""
        return self.engine.pool.checkedout()

    def told(self) -> list[str]:
        """Return the statements since it was last asked, by their first word."""
        words = [part.split()[0] for statement in self.statements for part in statement.split("; ")]
        self.statements.clear()
        return words


@pytest.fixture
async def opened() -> AsyncIterator:
    """Opens watched chats on an address, and closes them at the end."""
    everything: list[Watched] = []

    def open_one(url: str, concurrency: int = 4, **more) -> Watched:
        everything.append(Watched(open_engine(Secret(url), concurrency, **more)))
        return everything[-1]

    yield open_one
    for chats in everything:
        await chats.close()


@pytest.fixture
def chats(opened, database_url) -> Watched:
    return opened(database_url)


@contextmanager
def held(url: str, chat_id: str) -> Iterator[None]:
    """Keep a chat's row locked: whoever writes into the chat waits (on SQLite, whoever writes)."""
    engine = open_engine(Secret(url))
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if url.startswith("sqlite") else "BEGIN")
        connection.execute(text("UPDATE chats SET deleted_at = NULL WHERE id = :id"), {"id": chat_id})
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")
    engine.dispose()


def seqs(url: str, chat_id: str) -> tuple[list[int], int]:
    """Return a chat's sequence numbers in order, and the next one."""
    engine = open_engine(Secret(url))
    with engine.connect() as connection:
        taken = connection.execute(text("SELECT seq FROM messages WHERE chat_id = :id ORDER BY seq"), {"id": chat_id})
        following = connection.execute(text("SELECT next_seq FROM chats WHERE id = :id"), {"id": chat_id})
        found = list(taken.scalars()), following.scalar_one()
    engine.dispose()
    return found


class TestOrder:
    """Invariant 11: sequence numbers are unique and without gaps, and nobody deadlocks."""

    SESSIONS, ROUNDS = 8, 45

    async def test_many_writers_of_one_chat_leave_no_gap(self, opened, database_url):
        """Eight sessions in two processes open and finish answers; some are refused, some are retries."""
        one, two = opened(database_url, 8), opened(database_url, 8)
        chat_id = await new_chat(one)
        outcomes: Counter[str] = Counter()

        async def session(number: int) -> None:
            chats = (one, two)[number % 2]
            for turn in range(self.ROUNDS):
                sent = opening(chat_id, session=f"s{number}")
                outcomes[type(await chats.open_answer(sent, 0)).__name__] += 1
                if turn % 3 == 0:
                    outcomes[type(await chats.open_answer(opening(chat_id, session=f"s{number}"), 0)).__name__] += 1
                if turn % 5 == 0:
                    assert await finish(chats, sent, final("", Status.FAILED))
                    message_id = sent.identity.user_message_id
                    sent = opening(chat_id, session=f"s{number}", message=message_id)
                    found = await chats.open_answer(sent, 0)
                    outcomes["retried"] += isinstance(found, Started) and not found.is_first
                sources = [Source("title", "url")] if turn % 2 else []
                assert await finish(chats, sent, final(sources=sources))

        await asyncio.gather(*(session(number) for number in range(self.SESSIONS)))
        total = self.SESSIONS * self.ROUNDS
        assert outcomes == {"Started": total, "SessionBusy": total // 3, "retried": total // 5}
        rows = total * 2 + total // 5
        assert seqs(database_url, chat_id) == (list(range(1, rows + 1)), rows + 1)
        refused_by_a_key = [type(error).__name__ for error in one.errors + two.errors]
        assert refused_by_a_key == ["IntegrityError"] * (total // 3 + total // 5)

    async def test_what_is_refused_or_repeated_takes_no_number(self, chats, database_url):
        chat_id = await new_chat(chats)
        sent = opening(chat_id)
        await chats.open_answer(sent, ENOUGH)
        assert isinstance(await chats.open_answer(opening(chat_id), ENOUGH), SessionBusy)
        again = opening(chat_id, sent.content, sent.identity.user_message_id)
        assert isinstance(await chats.open_answer(again, ENOUGH), AlreadyAnswered)
        assert seqs(database_url, chat_id) == ([1, 2], 3)

    async def test_a_retry_takes_one_number(self, chats, database_url):
        chat_id = await new_chat(chats)
        sent = await exchange(chats, chat_id, "question", final("", Status.FAILED))
        await exchange(chats, chat_id, "question", final(), sent.identity.user_message_id)
        await exchange(chats, chat_id, "next", final())
        assert seqs(database_url, chat_id) == ([1, 2, 3, 4, 5], 6)


class TestStatements:
    async def test_an_answer_takes_six_at_most(self, chats):
        chat_id = await new_chat(chats)
        chats.told()
        await exchange(chats, chat_id, "first", final())
        assert chats.told() == ["BEGIN", "UPDATE", "SELECT", "INSERT", "COMMIT", "UPDATE"]
        await exchange(chats, chat_id, "second", final(sources=[Source("t", "u1"), Source("t", "u2")]))
        words = chats.told()
        assert words[:6] == ["BEGIN", "UPDATE", "SELECT", "INSERT", "SELECT", "COMMIT"]
        assert words[6:] == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
        assert len([word for word in words if word not in ("BEGIN", "COMMIT")]) <= 6

    async def test_everything_else_takes_one_or_two(self, chats):
        sent = opening(await new_chat(chats))
        chat_id = sent.identity.chat_id
        await chats.open_answer(sent, ENOUGH)
        chats.told()
        await chats.checkpoint(told(sent, "text"), sent.owner_token, NOW)
        assert chats.told() == ["UPDATE"]
        await chats.find_active(chat_id, "phone")
        await chats.find_active(chat_id, None)
        assert chats.told() == ["SELECT", "SELECT"]
        await finish(chats, sent)
        chats.told()
        await chats.find_answer(chat_id, sent.identity.message_id)
        assert chats.told() == ["SELECT", "SELECT"]
        await chats.find_answer_to(chat_id, sent.identity.user_message_id)
        assert chats.told() == ["SELECT", "SELECT"]
        await chats.require(chat_id, "user")
        await chats.ping()
        await new_chat(chats)
        assert chats.told() == ["SELECT", "SELECT", "INSERT"]

    async def test_the_server_hears_nothing_else(self, opened, mysql_url):
        """Counted by the server itself: also what the driver, the pool and the dialect send by themselves."""
        chats = opened(mysql_url, 1)

        def count() -> int:
            with chats.engine.connect() as connection:
                return int(connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'").one()[1])

        await chats.ping()
        before = count()
        assert before == 4  # SET NAMES, how long a statement may be, the ping, and the question itself
        await exchange(chats, await new_chat(chats), "question", final())
        assert count() - before - 1 == 1 + 6
        assert chats.connections == 1

    async def test_a_decision_reads_no_more_of_a_long_chat(self, opened, mysql_url):
        """Found through keys: the rows that the server touches do not grow with the chat."""
        chats = opened(mysql_url, 1)

        def touched() -> int:
            with chats.engine.connect() as connection:
                rows = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
                return sum(int(count) for _, count in rows)

        async def cost(chat_id: str) -> int:
            before = touched()
            assert isinstance(await chats.open_answer(opening(chat_id), 0), SessionBusy)
            return touched() - before

        short, long = await new_chat(chats), await new_chat(chats)
        for _ in range(60):
            await exchange(chats, long, "question", final())
        for chat_id in (short, long):
            await chats.open_answer(opening(chat_id), 0)
        assert await cost(long) <= await cost(short) + 5


class TestConnections:
    async def test_they_are_as_many_as_the_process_serves_and_one_more(self, opened, database_url):
        chats = opened(database_url, 3)
        chat_id = await new_chat(chats)
        await asyncio.gather(*(chats.require(chat_id, "user") for _ in range(60)))
        assert 1 <= chats.connections <= 4
        assert chats.taken == 0

    async def test_a_caller_that_is_cancelled_leaves_none_behind(self, chats, database_url):
        chat_id = await new_chat(chats)
        with held(database_url, chat_id):
            task = asyncio.create_task(chats.open_answer(opening(chat_id), ENOUGH))
            await until(lambda: chats.taken == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until(lambda: chats.taken == 0)
        # The work went on to its end.
        assert await chats.find_active(chat_id, "phone") is not None
        assert isinstance(await chats.open_answer(opening(chat_id, session="laptop"), ENOUGH), Started)

    async def test_what_is_cancelled_before_it_has_begun_is_never_done(self, opened, database_url):
        chats = opened(database_url, 1)
        chat_id = await new_chat(chats)
        with held(database_url, chat_id):
            working = [asyncio.create_task(chats.open_answer(opening(chat_id, session=s), 0)) for s in ("a", "b")]
            await until(lambda: chats.taken == 2)
            waiting = asyncio.create_task(chats.open_answer(opening(chat_id, session="c"), 0))
            await asyncio.wait([waiting], timeout=0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.gather(*working)
        await until(lambda: chats.taken == 0)
        assert await chats.find_active(chat_id, "c") is None
        assert await chats.find_active(chat_id, "b") is not None

    async def test_closing_waits_for_work_under_way(self, opened, database_url):
        chats, other = opened(database_url), opened(database_url)
        chat_id = await new_chat(chats)
        with held(database_url, chat_id):
            working = asyncio.create_task(chats.open_answer(opening(chat_id), ENOUGH))
            await until(lambda: chats.taken == 1)
            closing_ = asyncio.create_task(chats.close())
            await asyncio.wait([closing_], timeout=0.05)
            assert not closing_.done()
        await closing_
        assert isinstance(await working, Started)
        assert await other.find_active(chat_id, "phone") is not None

    @pytest.mark.parametrize(
        ("seconds", "is_dropped"), [(IDLE_SECONDS - 1, False), (IDLE_SECONDS + 1, True), (-5, True)]
    )
    async def test_one_that_has_been_idle_by_the_wall_clock_is_not_used_again(
        self, opened, mysql_url, seconds, is_dropped
    ):
        clock = [1_000_000.0]
        chats = opened(mysql_url, wall_clock=lambda: clock[0])
        await chats.ping()
        clock[0] += seconds
        await chats.ping()
        await chats.ping()
        assert chats.connections == 1 + is_dropped


class TestFaults:
    async def test_unreachable_is_unavailable(self, opened):
        chats = opened("mysql://user:secret@127.0.0.1:1/chat")
        for call in (chats.ping(), new_chat(chats), chats.open_answer(opening(new_id()), 0), chats.require("c", "u")):
            with pytest.raises(StorageUnavailable) as caught:
                await call
            assert "secret" not in str(caught.value) + repr(caught.value.__cause__)

    async def test_a_file_that_cannot_be_opened_is_unavailable(self, opened, tmp_path):
        with pytest.raises(StorageUnavailable):
            await opened(f"sqlite:///{tmp_path}/no/such/folder.db").ping()

    async def test_a_missing_table_is_a_mistake_of_ours_and_no_outage(self, opened, tmp_path):
        await self.fails_as_a_mistake(opened(f"sqlite:///{tmp_path}/empty.db"))

    async def test_a_missing_table_on_mysql_too(self, opened):
        with fresh_mysql(given("MYSQL_URL")) as url:
            chats = opened(url)
            await self.fails_as_a_mistake(chats)
            await chats.close()

    async def test_a_missing_column_too(self, opened):
        with fresh_mysql(given("MYSQL_URL")) as url:
            mysql_ask(url, "CREATE TABLE chats (id CHAR(36), user_id CHAR(36), deleted_at CHAR(1), next_seq INT)")
            chats = opened(url)
            await self.fails_as_a_mistake(chats)
            await chats.close()

    @staticmethod
    async def fails_as_a_mistake(chats: Watched) -> None:
        with pytest.raises(DBAPIError) as caught:
            await chats.open_answer(opening(new_id(), "what nobody may read"), ENOUGH)
        assert "what nobody" not in str(caught.value)

    async def test_a_killed_connection_is_replaced(self, opened, mysql_url):
        chats = opened(mysql_url, 1)
        sent = opening(await new_chat(chats))
        calls = [
            lambda: chats.open_answer(sent, ENOUGH),
            lambda: chats.checkpoint(told(sent, "text"), sent.owner_token, NOW),
            lambda: finish(chats, sent, final(sources=[Source("t", "u")])),
            lambda: chats.find_answer(sent.identity.chat_id, sent.identity.message_id),
            lambda: new_chat(chats),
        ]
        for call in calls:
            self.kill(chats, mysql_url)
            assert await call()
        assert chats.connections == 1 + len(calls)

    @staticmethod
    def kill(chats: Watched, url: str) -> None:
        with chats.engine.connect() as connection:
            number = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        mysql_ask(url, "KILL %s", number)

    async def test_killed_at_the_commit_nothing_is_stored_and_nothing_is_done_twice(self, opened, mysql_url):
        chats = opened(mysql_url, 1)
        chat_id = await new_chat(chats)
        chats.told()
        numbers = []

        def kill_before_commit(connection, cursor, statement: str, *_: object) -> None:
            if statement.endswith("COMMIT"):
                numbers.append(connection.connection.dbapi_connection.thread_id())
                mysql_ask(mysql_url, "KILL %s", numbers[-1])

        event.listen(chats.engine, "before_cursor_execute", kill_before_commit)
        with pytest.raises(StorageUnavailable):
            await chats.open_answer(opening(chat_id), ENOUGH)
        event.remove(chats.engine, "before_cursor_execute", kill_before_commit)
        assert chats.told().count("BEGIN") == 1
        assert seqs(mysql_url, chat_id) == ([], 1)
        assert isinstance(await chats.open_answer(opening(chat_id), ENOUGH), Started)

    async def test_a_deadlocks_victim_tries_again(self, opened, mysql_url):
        chats = opened(mysql_url)
        chat_id = await new_chat(chats)
        with closing(mysql_admin(mysql_url)) as other, other.cursor() as cursor:
            other.select_db(urlsplit(mysql_url).path.strip("/"))
            other.begin()
            columns = "id, user_id, next_seq, created_at, updated_at"
            heavy = [(new_id(), "u", NOW.replace(tzinfo=None), NOW.replace(tzinfo=None)) for _ in range(50)]
            cursor.executemany(f"INSERT INTO chats ({columns}) VALUES (%s, %s, 1, %s, %s)", heavy)
            cursor.execute("SELECT seq FROM messages WHERE chat_id = %s FOR UPDATE", (chat_id,))
            chats.told()
            task = asyncio.create_task(chats.open_answer(opening(chat_id), ENOUGH))
            blocked = (
                "SELECT COUNT(*) FROM performance_schema.data_lock_waits WHERE blocking_thread_id = ps_thread_id(%s)"
            )
            await until(lambda: mysql_ask(mysql_url, blocked, other.thread_id())[0][0])
            await asyncio.to_thread(cursor.execute, "UPDATE chats SET user_id = user_id WHERE id = %s", (chat_id,))
            other.rollback()
        assert isinstance(await task, Started)
        assert chats.told().count("BEGIN") == 2
        assert seqs(mysql_url, chat_id) == ([1, 2], 3)

    async def test_a_lock_that_outlasts_sqlites_patience_is_unavailable(self, opened, sqlite_url):
        patient, hasty = opened(sqlite_url), opened(f"{sqlite_url}?timeout=0.01")
        chat_id = await new_chat(patient)
        hasty.told()
        with held(sqlite_url, chat_id):
            with pytest.raises(StorageUnavailable):
                await hasty.open_answer(opening(chat_id), ENOUGH)
            assert hasty.told() == ["BEGIN"] * 4
            await hasty.require(chat_id, "user")  # readers do not wait
        assert isinstance(await hasty.open_answer(opening(chat_id), ENOUGH), Started)

    async def test_a_silent_server_costs_a_bounded_wait_and_comes_back(self, opened, mysql_url):
        async with Proxy(mysql_url) as proxy:
            chats = opened(proxy.url, 1)
            sent = opening(await new_chat(chats))
            await chats.open_answer(sent, ENOUGH)
            proxy.freeze()
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await finish(chats, sent)
            assert time.monotonic() - began < ANSWER_SECONDS + 5
            proxy.thaw()
            proxy.cut()
            assert await until(lambda: self.ended(chats, sent))
            assert chats.taken == 0
            await chats.close()

    @staticmethod
    async def ended(chats: Watched, sent) -> bool:
        """The end arrives once: now, or it had arrived while its reply was held back."""
        try:
            await finish(chats, sent)
            found = await chats.find_answer(sent.identity.chat_id, sent.identity.message_id)
        except StorageUnavailable:
            return False
        return found is not None and found.status is Status.COMPLETED

    async def test_a_server_that_goes_and_comes_back_is_found_again(self, opened, mysql_url):
        async with Proxy(mysql_url) as proxy:
            chats = opened(proxy.url)
            chat_id = await new_chat(chats)
            proxy.refuse()
            with pytest.raises(StorageUnavailable):
                await chats.open_answer(opening(chat_id), ENOUGH)
            with pytest.raises(StorageUnavailable):
                await chats.ping()
            proxy.accept()
            assert isinstance(await chats.open_answer(opening(chat_id), ENOUGH), Started)
            await chats.close()


class TestLogin:
    @pytest.fixture
    def account(self) -> Iterator[tuple[str, str]]:
        """A user of the test's own and an address without its login."""
        server, user = given("MYSQL_URL"), f"t{uuid4().hex[:12]}"
        with closing(mysql_admin(server)) as admin, admin.cursor() as cursor:
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY 'first'", (user,))
            yield user, server
            cursor.execute("DROP USER %s@'%%'", (user,))

    @staticmethod
    def url(account: tuple[str, str], password: str) -> str:
        parts = urlsplit(account[1])
        netloc = f"{account[0]}:{password}@{parts.hostname}:{parts.port}"
        return parts._replace(netloc=netloc, path="/information_schema").geturl()

    async def test_a_rotated_secret_is_looked_up_once_for_all(self, opened, account):
        asked = []

        def look_up() -> str:
            asked.append(1)
            return self.url(account, "second")

        chats = opened(self.url(account, "first"), on_login_refused=look_up)
        await chats.ping()
        assert not asked
        mysql_ask(account[1], "ALTER USER %s@'%%' IDENTIFIED BY 'second'", account[0])
        chats.engine.dispose()
        await asyncio.gather(*(chats.ping() for _ in range(4)))
        assert asked == [1]
        chats.engine.dispose()
        await chats.ping()
        assert asked == [1]

    @pytest.mark.parametrize(
        ("answer", "logins"), [(None, 1), ("the same", 1), ("no address", 1), ("also wrong", 2)], ids=str
    )
    async def test_when_that_does_not_help_it_is_unavailable(self, opened, account, answer, logins):
        """A password is not tried twice: an account may be locked after a few refusals."""
        async with Proxy(self.url(account, "wrong")) as proxy:
            also_wrong = proxy.url.replace(":wrong@", ":wrong-again@")
            answers = {"the same": proxy.url, "no address": "no address", "also wrong": also_wrong}
            chats = opened(proxy.url, on_login_refused=lambda: answers.get(answer))
            with pytest.raises(StorageUnavailable):
                await chats.ping()
            assert proxy.accepted == logins

    async def test_without_anyone_to_ask_it_is_unavailable(self, opened, account):
        with pytest.raises(StorageUnavailable):
            await opened(self.url(account, "wrong")).ping()


class TestTls:
    """PyMySQL's own `ssl_ca` would accept any host's certificate of the authority."""

    async def test_the_authority_and_the_address_are_verified(self, opened, tmp_path):
        ours = Authority(tmp_path, "ours")
        with tls_in_front_of(given("MYSQL_URL"), ours.context_for("127.0.0.1")) as url:
            chats = opened(f"{url}?ssl_ca={ours.path}")
            await chats.ping()
            with chats.engine.connect() as connection:
                assert connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").one()[1]

    @pytest.mark.parametrize(
        ("signer", "host"), [("ours", "127.0.0.2"), ("ours", "localhost"), ("theirs", "127.0.0.1")]
    )
    async def test_another_address_or_authority_is_refused(self, opened, tmp_path, signer, host):
        authorities = {name: Authority(tmp_path, name) for name in ("ours", "theirs")}
        with tls_in_front_of(given("MYSQL_URL"), authorities[signer].context_for(host)) as url:
            chats = opened(f"{url}?ssl_ca={authorities['ours'].path}")
            with pytest.raises(StorageUnavailable) as caught:
                await chats.ping()
            assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)

    async def test_the_systems_authorities_do_not_know_a_test_server(self, opened):
        with pytest.raises(StorageUnavailable) as caught:
            await opened(given("MYSQL_URL") + "?ssl_ca=system").ping()
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)

    @pytest.mark.parametrize(
        "query", ["ssl_ca=/no/such/file.pem", "ssl_ca=system&ssl_cert=/no/such/file.pem"], ids=["ca", "cert"]
    )
    def test_a_file_that_is_not_there_stops_the_function_at_its_start(self, query):
        with pytest.raises(SettingsError, match="MYSQL_URL") as caught:
            open_engine(Secret(f"mysql://user:secret@localhost/chat?{query}"))
        assert "secret" not in str(caught.value)


async def test_a_lost_reply_to_create_is_no_second_chat(chats):
    """Work may be run again after it was done: the chat that is there already is this one."""
    chat = Chat(new_id(), new_id(), "title", None, NOW)
    assert await chats.create(chat, None, None) == chat
    assert await chats.create(chat, None, None) == chat
    with pytest.raises(StorageRefused):
        await chats.create(replace(chat, user_id="somebody else"), None, None)


def lengthen(chats: Watched, after_answer: NewAnswer, exchanges: int) -> None:
    """Store so many exchanges more, each after the other, as if they had been asked and answered."""
    chat_id, parent = after_answer.identity.chat_id, after_answer.identity.message_id
    common = {"chat_id": chat_id, "session_id": "filler", "status": "completed", "created_at": NOW, "content": "more"}
    rows = []
    with chats.engine.begin() as connection:
        seq = connection.execute(text("SELECT next_seq FROM chats WHERE id = :id"), {"id": chat_id}).scalar_one()
        for at in range(seq, seq + 2 * exchanges, 2):
            question, answer = new_id(), new_id()
            asked = {"seq": at, "id": question, "role": "user", "parent_id": parent, "reply_to": None}
            said = {"seq": at + 1, "id": answer, "role": "assistant", "parent_id": None, "reply_to": question}
            rows += [common | asked, common | said]
            parent = answer
        connection.execute(insert(messages), rows)
        connection.execute(update(chats_table).filter_by(id=chat_id).values(next_seq=seq + 2 * exchanges))


class TestFarBranches:
    """A branch whose messages lie far from one another, with thousands of another branch's in between."""

    @pytest.fixture
    async def far(self, opened, database_url) -> tuple[Watched, str, NewAnswer, NewAnswer]:
        chats = opened(database_url)
        chat_id = await new_chat(chats)
        failed = await exchange(chats, chat_id, "q1", final("", Status.FAILED))
        first = await exchange(chats, chat_id, "q2", final("a2"))
        second = await exchange(chats, chat_id, "q3", final("a3"))
        lengthen(chats, second, 2500)
        await exchange(chats, chat_id, "q1", final("a1"), failed.identity.user_message_id)
        return chats, chat_id, first, second

    async def test_the_ai_gets_the_whole_path(self, far):
        chats, chat_id, first, second = far
        beginning = [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "a2")]
        assert await ended(chats, after(opening(chat_id, "q3, edited"), first), "b3") == beginning
        assert await history(chats, chat_id) == [*beginning, QuestionAnswer("q3, edited", "b3")]
        assert list((await chats.open_answer(again(second, "laptop"), ENOUGH)).history) == beginning

    @pytest.mark.parametrize("limit", [1, 2, 100])
    async def test_its_pages_join_to_it_in_a_few_statements(self, far, limit):
        chats, chat_id, first, _ = far
        await ended(chats, after(opening(chat_id, "q3, edited"), first), "b3")
        library, told, before = SqlChatLibrary(chats.database), [], None
        chats.told()
        while before is not None or not told:
            page, before = await library.list_messages(chat_id, MessageView(), before, limit, 10**6)
            told[:0] = [message.content for message in page]
            assert len(chats.told()) <= 6
        assert told == ["q1", "", "q2", "a2", "q3, edited", "b3"]


class TestReading:
    """Each read of a chat or of many is by an index: what the server touches does not grow with what is there."""

    @pytest.fixture
    async def full(self, opened, mysql_url) -> tuple[Watched, str]:
        chats = opened(mysql_url, 1)
        rows = [
            {
                "id": new_id(),
                "user_id": "reader",
                "title": f"chat {n}",
                "next_seq": 1,
                "created_at": at,
                "updated_at": at,
            }
            for n in range(2000)
            for at in [NOW + timedelta(seconds=n)]
        ]
        with chats.engine.begin() as connection:
            connection.execute(insert(chats_table), rows)
        first = await exchange(chats, rows[-1]["id"], "q", final("a"), user="reader")
        lengthen(chats, first, 500)
        with chats.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE TABLE chats, messages, search_texts, message_feedback").all()
        return chats, rows[-1]["id"]

    @pytest.mark.parametrize(
        "name", ["list", "list on", "search", "read", "active branch", "whole tree", "branch", "running", "deleting"]
    )
    async def test_it_is_by_an_index(self, full, name):
        chats, chat_id = full
        library = SqlChatLibrary(chats.database)
        place = Place(NOW + timedelta(seconds=1000), new_id())
        leaf = (await library.list_messages(chat_id, MessageView(), None, 1, 10**6))[0][0].id
        reads = {
            "list": lambda: library.list_chats("reader", None, 30),
            "list on": lambda: library.list_chats("reader", place, 30),
            "search": lambda: library.list_chats("reader", None, 30, ["more"]),
            "read": lambda: library.read_chat(chat_id, "reader"),
            "active branch": lambda: library.list_messages(chat_id, MessageView(), None, 30, 10**6),
            "whole tree": lambda: library.list_messages(chat_id, MessageView(is_whole_tree=True), None, 30, 10**6),
            "branch": lambda: library.list_messages(chat_id, MessageView(leaf_id=leaf), None, 30, 10**6),
            "running": lambda: library.running_answers(chat_id),
            "deleting": lambda: library.next_part(chat_id),
        }
        asked: list[tuple[str, object]] = []

        def note(_connection, _cursor, words: str, values: object, *_: object) -> None:
            asked.append((words, values))

        event.listen(chats.engine, "before_cursor_execute", note)
        await reads[name]()
        event.remove(chats.engine, "before_cursor_execute", note)
        plans = []
        with chats.engine.connect() as connection:
            for words, values in asked:
                plans += connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {words}", values).mappings().all()
        assert plans
        for plan in plans:
            if plan["table"] and not plan["table"].startswith("<"):
                assert plan["type"] != "ALL" and plan["key"], f"a scan: {dict(plan)}"
        listing = [plan for plan in plans if plan["table"] == "chats" and plan["select_type"] == "PRIMARY"]
        if name.startswith("list"):
            assert not [plan for plan in listing if "filesort" in (plan["Extra"] or "")], "sorted, not read in order"

    async def test_pages_of_a_long_list_and_of_a_long_chat_touch_as_much_as_those_of_a_short_one(self, full):
        chats, chat_id = full
        library = SqlChatLibrary(chats.database)
        short = await new_chat(chats, "somebody")
        await exchange(chats, short, "q", final("a"), user="somebody")

        async def touched(read) -> int:
            await read()
            before = self.handlers(chats)
            await read()
            return self.handlers(chats) - before

        few = await touched(lambda: library.list_chats("reader", None, 10))
        deep = await touched(lambda: library.list_chats("reader", Place(NOW + timedelta(seconds=300), new_id()), 10))
        assert deep <= 1.5 * few
        page = await touched(lambda: library.list_messages(chat_id, MessageView(), None, 10, 10**6))
        back = await touched(
            lambda: library.list_messages(chat_id, MessageView(is_whole_tree=True), (200, "any"), 10, 10**6)
        )
        assert back <= 1.5 * page

    @staticmethod
    def handlers(chats: Watched) -> int:
        with chats.engine.connect() as connection:
            rows = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
            return sum(int(count) for _, count in rows)
