"""MySQL (or SQLite) as `Chats`: one thread hop for each call, and as few statements as it takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select
from sqlalchemy.exc import IntegrityError

from chat.adapters.mysql import statements as sql
from chat.adapters.mysql.batch import begin, commit
from chat.adapters.mysql.database import Database, rolled_back_on_error
from chat.adapters.mysql.opening import came_before, open_answer
from chat.adapters.mysql.rows import chat_row, final_values, load_answer, source_rows
from chat.adapters.mysql.titles import set_title
from chat.domain.answer import Answer
from chat.domain.errors import ChatNotFound, IdempotencyConflict
from chat.domain.model import ROOT, AlreadyAnswered, Chat, FinalAnswer, NewAnswer, SessionBusy, Started, StoredAnswer

BESIDE_TEXTS_BYTES = 4096
"""More than the statement that ends an answer has beside its texts."""


class SqlChatRepository:
    """Chats and messages in MySQL or SQLite; one for each process."""

    def __init__(self, engine: Engine) -> None:
        self.database = Database(engine)

    async def close(self) -> None:
        """Close all connections."""
        await self.database.close()

    async def create(self, chat: Chat, idempotency_key: str | None, digest: str | None) -> Chat:
        return await self.database.run(lambda connection: _create(connection, chat, idempotency_key, digest))

    async def find_by_key(self, user_id: str, idempotency_key: str) -> str | None:
        values = {"b_user": user_id, "b_key": idempotency_key}
        row = await self.database.run(lambda connection: connection.execute(sql.CHAT_BY_KEY, values).first())
        return None if row is None else str(row.id)

    async def require(self, chat_id: str, user_id: str) -> None:
        values = {"b_chat": chat_id, "b_user": user_id}
        if await self.database.run(lambda connection: connection.execute(sql.OWN_CHAT, values).first()) is None:
            raise ChatNotFound

    async def open_answer(self, opening: NewAnswer, history_bytes: int) -> Started | AlreadyAnswered | SessionBusy:
        opened = await self.database.run(lambda connection: open_answer(connection, opening, history_bytes))
        limit = self.database.max_packet_bytes
        if isinstance(opened, Started) and limit is not None:
            return replace(opened, max_answer_bytes=limit - BESIDE_TEXTS_BYTES)
        return opened

    async def find_answer(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        return await self._find(sql.ANSWER, {"b_chat": chat_id, "b_message": message_id})

    async def find_answer_to(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        return await self._find(sql.ANSWER_TO, {"b_chat": chat_id, "b_question": user_message_id})

    async def find_sent(self, chat_id: str, user_id: str, user_message_id: str, content: str) -> StoredAnswer | None:
        own = {"b_chat": chat_id, "b_user": user_id}

        def work(connection: Connection) -> StoredAnswer | None:
            if connection.execute(sql.OWN_CHAT, own).first() is None:
                raise ChatNotFound
            if not came_before(connection, chat_id, user_message_id, content):
                return None
            return load_answer(connection, sql.ANSWER_TO, {"b_chat": chat_id, "b_question": user_message_id})

        return await self.database.run(work)

    async def find_active(self, chat_id: str, session_id: str | None) -> StoredAnswer | None:
        if session_id is None:
            return await self._find(sql.ACTIVE, {"b_chat": chat_id})
        return await self._find(sql.ACTIVE_OF, {"b_chat": chat_id, "b_session": session_id})

    async def checkpoint(
        self, answer: Answer, owner_token: str, seen_at: datetime, max_characters: int | None = None
    ) -> bool:
        who = answer.identity
        values = {
            **_own(who.chat_id, who.message_id, owner_token),
            "content": answer.text[:max_characters],
            "reasoning": (answer.reasoning or None) if max_characters is None else None,
            "owner_seen_at": seen_at,
        }
        return await self.database.run(lambda connection: connection.execute(sql.CHANGE_OWN, values).rowcount > 0)

    async def finish(
        self,
        chat_id: str,
        message_id: str,
        owner_token: str,
        final: FinalAnswer,
        if_seen_at: datetime | None = None,
    ) -> bool:
        statement = sql.CHANGE_OWN
        values = {**_own(chat_id, message_id, owner_token), **final_values(final)}
        if if_seen_at is not None:
            statement = sql.CHANGE_OWN_IF_SEEN_AT
            values["b_seen_at"] = if_seen_at
        sources = source_rows(chat_id, message_id, final.sources)

        def work(connection: Connection) -> bool:
            if not sources:
                return connection.execute(statement, values).rowcount > 0
            with rolled_back_on_error(connection):
                (moved,) = begin(connection, [(statement, values)])
                commit(connection, [(sql.INSERT_SOURCES, sources)] if moved.rowcount else [])
                return moved.rowcount > 0

        return await self.database.run(work)

    async def make_searchable(self, chat_id: str, message_id: str) -> None:
        def work(connection: Connection) -> None:
            values = {"b_chat": chat_id, "b_message": message_id}
            rows = connection.execute(sql.TEXTS_OF_ANSWER, values).mappings().all()
            if found := [dict(row) for row in rows if row["content"]]:
                connection.execute(sql.INSERT_TEXTS, found)

        await self.database.run(work)

    async def keep_window(self, chat_id: str, first_id: str | None) -> None:
        values = {"b_chat": chat_id, "b_first": first_id}
        await self.database.run(lambda connection: connection.execute(sql.KEEP_WINDOW, values))

    async def set_title(self, chat_id: str, title: str) -> bool:
        return await self.database.run(lambda connection: set_title(connection, chat_id, title))

    async def ping(self) -> None:
        await self.database.run(lambda connection: connection.execute(sql.PING).scalar())

    async def _find(self, statement: Select[Any], values: dict[str, Any]) -> StoredAnswer | None:
        return await self.database.run(lambda connection: load_answer(connection, statement, values))


def _own(chat_id: str, message_id: str, owner_token: str) -> dict[str, Any]:
    return {"b_chat": chat_id, "b_message": message_id, "b_token": owner_token}


def _create(connection: Connection, chat: Chat, key: str | None, digest: str | None) -> Chat:
    """Store the chat, and look only if it cannot be: then its key came before, or it was stored by a lost attempt."""
    try:
        connection.execute(sql.INSERT_CHAT, chat_row(chat, key, digest))
    except IntegrityError:
        statement = sql.CHAT_BY_ID if key is None else sql.CHAT_BY_KEY
        values = {"b_user": chat.user_id, "b_key": key, "b_chat": chat.id}
        known = connection.execute(statement, values).first()
        if known is None:
            raise
        if known.idempotency_digest != digest:
            detail = "This Idempotency-Key came before with another title or system prompt."
            raise IdempotencyConflict(detail) from None
        return Chat(known.id, known.user_id, known.title, known.system_prompt, known.created_at)
    if chat.title is not None:
        title = {"chat_id": chat.id, "message_id": ROOT, "user_id": chat.user_id, "content": chat.title}
        connection.execute(sql.INSERT_TEXTS, title)
    return chat
