"""MySQL as `Chats`: one thread hop for each call, and as few statements as it takes.

Whoever writes into a chat first takes sequence numbers from its row. That row's lock puts all writers of the chat in
line, so what is read after it decides, and the unique keys are only a second fence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from chat.adapters.mysql.engine import Database, transaction
from chat.adapters.mysql.history import read_history
from chat.adapters.mysql.rows import final_values, opening_rows, source_rows, stored_answer
from chat.adapters.mysql.tables import chats, message_sources, messages
from chat.answer import Answer
from chat.errors import ChatNotFound, IdempotencyConflict
from chat.model import Busy, Chat, FinalRecord, Opened, Opening, Repeated, Source, Status, StoredAnswer, title_from

FIRST_SEQ = 1
Row = RowMapping

_IS_CHAT = and_(chats.c.id == bindparam("b_chat"), chats.c.user_id == bindparam("b_user"), chats.c.deleted_at.is_(None))
_IS_MESSAGE = and_(messages.c.chat_id == bindparam("b_chat"), messages.c.id == bindparam("b_message"))
_IS_OWN = and_(_IS_MESSAGE, messages.c.status == Status.STREAMING, messages.c.owner_token == bindparam("b_token"))
_IS_ANSWER = and_(messages.c.chat_id == bindparam("b_chat"), messages.c.role == "assistant")

_TAKE_SEQ = (
    update(chats)
    .where(_IS_CHAT)
    .values(
        next_seq=chats.c.next_seq + 2,
        updated_at=bindparam("b_now"),
        title=func.coalesce(chats.c.title, bindparam("b_title")),
    )
)
_GIVE_ONE_BACK = update(chats).where(chats.c.id == bindparam("b_chat")).values(next_seq=chats.c.next_seq - 1)
_STANDING = (
    select(
        *(chats.c.next_seq, chats.c.system_prompt),
        *(messages.c.seq, messages.c.id, messages.c.role, messages.c.status, messages.c.reply_to),
        messages.c.active_session,
    )
    .select_from(
        chats.outerjoin(
            messages,
            and_(
                messages.c.chat_id == chats.c.id,
                or_(
                    messages.c.id == bindparam("b_question"),
                    messages.c.reply_to == bindparam("b_question"),
                    messages.c.active_session == bindparam("b_session"),
                ),
            ),
        )
    )
    .where(chats.c.id == bindparam("b_chat"))
    .order_by(messages.c.seq)
)
_CONTENT = select(messages.c.content).where(_IS_MESSAGE)
_ANSWER = select(messages).where(_IS_ANSWER, messages.c.id == bindparam("b_message"))
_ANSWER_TO = (
    select(messages)
    .where(_IS_ANSWER, messages.c.reply_to == bindparam("b_question"))
    .order_by(messages.c.seq.desc())
    .limit(1)
)
_ACTIVE = (
    select(messages).where(_IS_ANSWER, messages.c.active_session.is_not(None)).order_by(messages.c.seq.desc()).limit(1)
)
_ACTIVE_OF = select(messages).where(_IS_ANSWER, messages.c.active_session == bindparam("b_session"))
_SOURCES = (
    select(message_sources.c.title, message_sources.c.url)
    .where(message_sources.c.chat_id == bindparam("b_chat"), message_sources.c.message_id == bindparam("b_message"))
    .order_by(message_sources.c.position)
)
_BY_KEY = select(chats).where(chats.c.user_id == bindparam("b_user"), chats.c.idempotency_key == bindparam("b_key"))
_CHECKPOINT = update(messages).where(_IS_OWN)


class SqlChats:
    """Chats and messages in MySQL or SQLite."""

    def __init__(self, engine: Engine) -> None:
        self._database = Database(engine)

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()

    async def create(self, chat: Chat, idempotency_key: str | None, digest: str | None) -> Chat:
        return await self._database.run(lambda connection: _create(connection, chat, idempotency_key, digest))

    async def require(self, chat_id: str, user_id: str) -> None:
        def work(connection: Connection) -> None:
            values = {"b_chat": chat_id, "b_user": user_id}
            if connection.execute(select(chats.c.id).where(_IS_CHAT), values).first() is None:
                raise ChatNotFound

        await self._database.run(work)

    async def open_answer(self, opening: Opening, history_bytes: int) -> Opened | Repeated | Busy:
        def work(connection: Connection) -> Opened | Repeated | Busy:
            try:
                with transaction(connection):
                    return _open(connection, opening, history_bytes)
            except _InTheWay as found:
                return _found(connection, opening, found)

        return await self._database.run(work)

    async def find_answer(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        return await self._find(_ANSWER, {"b_chat": chat_id, "b_message": message_id})

    async def find_answer_to(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        return await self._find(_ANSWER_TO, {"b_chat": chat_id, "b_question": user_message_id})

    async def find_active(self, chat_id: str, session_id: str | None) -> StoredAnswer | None:
        if session_id is None:
            return await self._find(_ACTIVE, {"b_chat": chat_id})
        return await self._find(_ACTIVE_OF, {"b_chat": chat_id, "b_session": session_id})

    async def checkpoint(self, answer: Answer, owner_token: str, seen_at: datetime) -> bool:
        who = answer.identity
        values = {
            **_own(who.chat_id, who.message_id, owner_token),
            "content": answer.text,
            "reasoning": answer.reasoning or None,
            "owner_seen_at": seen_at,
        }
        return await self._database.run(lambda connection: connection.execute(_CHECKPOINT, values).rowcount > 0)

    async def finish(
        self,
        chat_id: str,
        message_id: str,
        owner_token: str,
        final: FinalRecord,
        if_seen_at: datetime | None = None,
    ) -> bool:
        statement = update(messages).where(_IS_OWN)
        values = {**_own(chat_id, message_id, owner_token), **final_values(final)}
        if if_seen_at is not None:
            statement = statement.where(messages.c.owner_seen_at == bindparam("b_seen_at"))
            values["b_seen_at"] = if_seen_at
        sources = source_rows(chat_id, message_id, final.sources)

        def work(connection: Connection) -> bool:
            if not sources:
                return connection.execute(statement, values).rowcount > 0
            with transaction(connection):
                is_moved = connection.execute(statement, values).rowcount > 0
                if is_moved:
                    connection.execute(insert(message_sources), sources)
                return is_moved

        return await self._database.run(work)

    async def ping(self) -> None:
        await self._database.run(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())

    async def _find(self, statement: Select[Any], values: dict[str, Any]) -> StoredAnswer | None:
        return await self._database.run(lambda connection: _load(connection, statement, values))


class _InTheWay(Exception):
    """An answer that exists already decides; leaving the transaction gives the sequence numbers back."""

    def __init__(self, message_id: str, is_same_message: bool) -> None:
        super().__init__(message_id)
        self.message_id = message_id
        self.is_same_message = is_same_message


def _own(chat_id: str, message_id: str, owner_token: str) -> dict[str, Any]:
    return {"b_chat": chat_id, "b_message": message_id, "b_token": owner_token}


def _create(connection: Connection, chat: Chat, key: str | None, digest: str | None) -> Chat:
    row = {
        "id": chat.id,
        "user_id": chat.user_id,
        "title": chat.title,
        "system_prompt": chat.system_prompt,
        "next_seq": FIRST_SEQ,
        "idempotency_key": key,
        "idempotency_digest": digest,
        "created_at": chat.created_at,
        "updated_at": chat.created_at,
    }
    try:
        connection.execute(insert(chats), row)
    except IntegrityError:
        known = connection.execute(_BY_KEY, {"b_user": chat.user_id, "b_key": key}).mappings().first()
        if known is None:
            raise
        if known["idempotency_digest"] != digest:
            raise IdempotencyConflict("This Idempotency-Key came before with another title or system prompt.") from None
        return Chat(known["id"], known["user_id"], known["title"], known["system_prompt"], known["created_at"])
    return chat


def _open(connection: Connection, opening: Opening, history_bytes: int) -> Opened:
    who = opening.identity
    taken = connection.execute(
        _TAKE_SEQ,
        {
            "b_chat": who.chat_id,
            "b_user": opening.user_id,
            "b_now": opening.now,
            "b_title": title_from(opening.content),
        },
    )
    if taken.rowcount == 0:
        raise ChatNotFound
    standing = list(
        connection.execute(
            _STANDING, {"b_chat": who.chat_id, "b_question": who.user_message_id, "b_session": who.session_id}
        ).mappings()
    )
    seq = standing[0]["next_seq"] - 2
    question = _judge(connection, opening, [row for row in standing if row["id"] is not None])
    if question is not None:
        connection.execute(_GIVE_ONE_BACK, {"b_chat": who.chat_id})
    connection.execute(insert(messages), opening_rows(opening, seq, is_first=question is None))
    history = read_history(connection, who.chat_id, question["seq"] if question else seq, history_bytes)
    return Opened(standing[0]["system_prompt"], history, is_first=question is None)


def _judge(connection: Connection, opening: Opening, rows: list[Row]) -> Row | None:
    """Return the row of the user's message if this is a retry of it, None if it is new.

    Raises:
        IdempotencyConflict: its id is taken by other content, or by an answer.
        _InTheWay: its answer stands, or this session has an active one.
    """
    who = opening.identity
    question = next((row for row in rows if row["id"] == who.user_message_id), None)
    if question is not None:
        _must_be_the_same(connection, opening, question)
    answers = [row for row in rows if row["reply_to"] == who.user_message_id]
    if answers and not Status(answers[-1]["status"]).retryable:
        raise _InTheWay(answers[-1]["id"], is_same_message=True)
    active = next((row for row in rows if row["active_session"] == who.session_id), None)
    if active is not None:
        raise _InTheWay(active["id"], is_same_message=False)
    return question


def _must_be_the_same(connection: Connection, opening: Opening, question: Row) -> None:
    who = opening.identity
    content = connection.execute(_CONTENT, {"b_chat": who.chat_id, "b_message": who.user_message_id}).scalar()
    if question["role"] != "user" or content != opening.content:
        raise IdempotencyConflict("This userMessageId came before with other content: choose a new one.")


def _found(connection: Connection, opening: Opening, found: _InTheWay) -> Repeated | Busy:
    who = opening.identity
    answer = _load(connection, _ANSWER, {"b_chat": who.chat_id, "b_message": found.message_id})
    if answer is None:
        raise ChatNotFound  # deleted a moment ago
    return Repeated(answer) if found.is_same_message else Busy(answer)


def _load(connection: Connection, statement: Select[Any], values: dict[str, Any]) -> StoredAnswer | None:
    row = connection.execute(statement, values).mappings().first()
    if row is None:
        return None
    place = {"b_chat": row["chat_id"], "b_message": row["id"]}
    sources = [Source(title, url) for title, url in connection.execute(_SOURCES, place)]
    return stored_answer(row, sources)
