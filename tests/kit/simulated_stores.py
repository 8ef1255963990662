"""The stores and the AI of many processes in virtual time: slow by chance, away, forgetful, losing what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import select

from chat.adapters.mysql import statements as sql
from chat.adapters.mysql.database import Database
from chat.adapters.mysql.repository import SqlChatRepository
from chat.adapters.mysql.rows import load_answer
from chat.adapters.mysql.tables import messages
from chat.application.ports import Chats, LogPage, OwnerStatus, TextDelta
from chat.domain.answer import Answer
from chat.domain.errors import StorageUnavailable
from chat.domain.events import Event
from chat.domain.model import FinalAnswer, NewAnswer, Started, Status, StoredAnswer
from tests.kit.chats import MemoryChats
from tests.kit.virtual_time import PROCESS

LATENCIES = [0.0, 0.0, 0.0, 0.001, 0.01, 0.03]
LEASE_SECONDS, REFRESH_SECONDS = 15.0, 5.0
BEAT_SECONDS, POLL_SECONDS = 0.05, 0.1
INTENT_SECONDS = 60.0

ANSWERING: ContextVar[str] = ContextVar("answering", default="")
"""The answer that the running task generates."""


class Network:
    """What lies between a process and a store."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_away = False
        self.loses_reply = False
        self.failures = 0

    @property
    def is_well(self) -> bool:
        return not (self.is_away or self.loses_reply)

    async def reach(self) -> None:
        await self._pass()
        if self.is_away:
            self._fail()

    async def reply(self) -> None:
        is_lost, self.loses_reply = self.loses_reply, False
        await self._pass()
        if is_lost:
            self._fail()

    def _fail(self) -> None:
        self.failures += 1
        raise StorageUnavailable

    async def _pass(self) -> None:
        await asyncio.sleep(self.random.choice(LATENCIES))


class _HereDatabase(Database):
    """Runs its work at once, without a thread: no other process gets between two statements of a transaction."""

    async def run(self, work: Callable[[Any], Any]) -> Any:
        return self._attempt(work)


class TreeRow(NamedTuple):
    """A stored message, as branches see it."""

    seq: int
    id: str
    reply_to: str | None
    parent_id: str | None
    is_aside: bool
    content: str
    status: str
    error_code: str | None


class HereSqlChats(SqlChatRepository):
    """`SqlChatRepository` for a loop in virtual time."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.database = _HereDatabase(engine)

    def peek(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        values = {"b_chat": chat_id, "b_message": message_id}
        return self.database._attempt(lambda connection: load_answer(connection, sql.ANSWER, values))

    def tree(self, chat_id: str) -> list[TreeRow]:
        """Return all messages of a chat, in order."""
        columns = [messages.c[name] for name in TreeRow._fields]
        statement = select(*columns).where(messages.c.chat_id == chat_id).order_by(messages.c.seq)
        rows = self.database._attempt(lambda connection: connection.execute(statement).all())
        return [TreeRow(*row)._replace(is_aside=bool(row.is_aside)) for row in rows]


class HereMemoryChats(MemoryChats):
    """`MemoryChats` with the same window."""

    def peek(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        return self.rows[chat_id].answers.get(message_id, (0, None))[1]

    def tree(self, chat_id: str) -> list[TreeRow]:
        row = self.rows[chat_id]
        asked = [
            TreeRow(seq, name, None, row.parents[name], False, content, Status.COMPLETED, None)
            for name, (seq, content) in row.questions.items()
        ]
        said = [
            TreeRow(
                *(seq, name, stored.identity.user_message_id, None, name in row.asides),
                *(stored.text, stored.status, stored.error_code),
            )
            for name, (seq, stored) in row.answers.items()
        ]
        return sorted([*asked, *said])


class DistantChats:
    """MySQL as processes reach it: over a network."""

    def __init__(self, chats: Chats, network: Network, on_opened: Callable[[NewAnswer, Started], None]) -> None:
        self._chats, self.network, self._on_opened = chats, network, on_opened

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            await self.network.reach()
            result = await getattr(self._chats, name)(*arguments, **named)
            if isinstance(result, Started):
                self._on_opened(arguments[0], result)
            await self.network.reply()
            return result

        return call


class DistantCoordination:
    """A Redis with leases that expire, a log that lags one beat behind, and messages that may get lost."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.loses_messages = False
        self.lines: list[DistantLease] = []
        self.forget()

    def forget(self) -> None:
        """Lose everything."""
        self.cancels: set[tuple[str, str]] = set()
        self.intents: dict[tuple[str, str], float] = {}
        self.leases: dict[str, float] = {}
        self.logs: dict[str, list[Event]] = {}
        self.parked: dict[str, FinalAnswer] = {}

    def claim(self, answer: Answer, owner_token: str, user_id: str, on_cancel: Callable[[], None]) -> DistantLease:
        line = DistantLease(self, answer, on_cancel)
        self.lines.append(line)
        return line

    async def request_cancel(self, chat_id: str, message_id: str, by_session: str) -> None:
        await self.network.reach()
        self.cancels.add((chat_id, message_id))
        for line in self.lines:
            if line.answer.identity.message_id == message_id and line.is_subscribed and not self.loses_messages:
                asyncio.get_running_loop().call_soon(line.on_cancel, context=line.context)
        await self.network.reply()

    async def put_pending_cancel(self, chat_id: str, user_message_id: str, by_session: str) -> None:
        await self.network.reach()
        self.intents[chat_id, user_message_id] = now() + INTENT_SECONDS
        await self.network.reply()

    async def delete_pending_cancel(self, chat_id: str, user_message_id: str) -> None:
        if not self.network.is_away:
            self.intents.pop((chat_id, user_message_id), None)

    async def read(self, chat_id: str, message_id: str, after: int) -> LogPage | None:
        await self.network.reach()
        log = self.logs.get(message_id)
        page = None if log is None else LogPage(log[after:], bool(log[after:]) and log[-1].name == "done")
        await self.network.reply()
        return page

    async def owner_status(self, chat_id: str, message_id: str) -> OwnerStatus | None:
        try:
            await self.network.reach()
            vitals = OwnerStatus(self.leases.get(message_id, 0) > now(), self.parked.get(message_id))
            await self.network.reply()
        except StorageUnavailable:
            return None
        return vitals

    async def delete_stashed_final(self, chat_id: str, message_id: str) -> None:
        if not self.network.is_away:
            self.parked.pop(message_id, None)


class DistantLease:
    """An owner's line: subscribed from `register` on, and heard at each beat."""

    def __init__(self, coordination: DistantCoordination, answer: Answer, on_cancel: Callable[[], None]) -> None:
        self.coordination, self.answer, self.on_cancel = coordination, answer, on_cancel
        self.context: Context = copy_context()
        self.process = PROCESS.get()
        self.is_subscribed = False
        self.intent: tuple[str, str] | None = None
        self.next_lease = self.next_poll = 0.0
        self.beating: asyncio.Task | None = None

    async def register(self, look_for_pending_cancel: bool) -> bool:
        who, network = self.answer.identity, self.coordination.network
        if look_for_pending_cancel:
            self.intent = (who.chat_id, who.user_message_id)
        self.beating = asyncio.create_task(self._beat())
        try:
            await network.reach()
            self.is_subscribed = True
            await network.reply()
            await network.reach()
            self._refresh()
            is_cancelled = self._is_cancelled()
            await network.reply()
        except StorageUnavailable:
            return False
        self.intent = None
        return is_cancelled

    async def release(self) -> None:
        self._stop()
        try:
            await self.coordination.network.reach()
            self._append()
            self.coordination.leases.pop(self.answer.identity.message_id, None)
            await self.coordination.network.reply()
        except StorageUnavailable:
            pass

    async def discard(self) -> None:
        await self.release()
        self.coordination.logs.pop(self.answer.identity.message_id, None)

    async def stash_final(self, final: FinalAnswer) -> bool:
        try:
            await self.coordination.network.reach()
            self.coordination.parked[self.answer.identity.message_id] = final
            await self.coordination.network.reply()
        except StorageUnavailable:
            return False
        return True

    async def close(self) -> None:
        self._stop()
        self.coordination.lines.remove(self)

    def _stop(self) -> None:
        if self.beating is not None:
            self.beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self.coordination.network.is_away:
                continue
            self.is_subscribed = True
            self._append()
            if now() >= self.next_lease:
                self._refresh()
            if now() >= self.next_poll:
                self.next_poll = now() + POLL_SECONDS
                if self._is_cancelled():
                    self.on_cancel()
                self.intent = None

    def _is_cancelled(self) -> bool:
        who, coordination = self.answer.identity, self.coordination
        is_intended = self.intent is not None and coordination.intents.get(self.intent, 0) > now()
        return is_intended or (who.chat_id, who.message_id) in coordination.cancels

    def _append(self) -> None:
        events = self.answer.events
        log = self.coordination.logs.setdefault(self.answer.identity.message_id, [])
        log += events[len(log) :]

    def _refresh(self) -> None:
        self.coordination.leases[self.answer.identity.message_id] = now() + LEASE_SECONDS
        self.next_lease = now() + REFRESH_SECONDS


class FedAI:
    """Says what a test feeds it, answer by answer; `None` is the end of what it says."""

    models = ("fed",)

    def __init__(self) -> None:
        self.calls: dict[str, asyncio.Queue] = {}
        self.counts: dict[str, int] = {}

    async def answer(self, turns: Sequence[Any], max_tokens: int, model: str) -> AsyncIterator[Sequence[Any]]:
        message_id = ANSWERING.get()
        self.counts[message_id] = self.counts.get(message_id, 0) + 1
        queue = self.calls[message_id] = asyncio.Queue()
        while (said := await queue.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield [TextDelta(said) if isinstance(said, str) else said]


def now() -> float:
    return asyncio.get_running_loop().time()
