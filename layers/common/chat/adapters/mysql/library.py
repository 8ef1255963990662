"""MySQL (or SQLite) as `ChatLibrary`: reads that each need one index, changes and deletes in short transactions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from chat.adapters.mysql.database import Database, transaction
from chat.adapters.mysql.path import Loose, PathFinder
from chat.adapters.mysql.rows import stored_answer, usage_of
from chat.adapters.mysql.statements import SEQ_OF
from chat.adapters.mysql.tables import chats, message_feedback, message_sources, messages, search_texts
from chat.adapters.mysql.titles import index_title
from chat.application.ports import ChatChange, ChatPart, MessageView
from chat.domain.errors import ChatChanged, ChatNotFound, MessageNotFound
from chat.domain.listing import (
    PREVIEW_CHARACTERS,
    ChatDetails,
    ChatSummary,
    Feedback,
    Place,
    StoredMessage,
    preview,
    snippet,
)
from chat.domain.model import Source, Status, StoredAnswer

ROWS_AT_ONCE = 1000
"""How many rows one transaction deletes at most: it locks them, and the log of the database holds them."""
MIN_HEADS = 16
"""How many messages are looked at at least: between those of one branch there are those of others."""
_RAW_CHARACTERS = 4 * PREVIEW_CHARACTERS
_BEFORE_MATCH = 60
NO_FULLTEXT_INDEX = 1191
"""The server has no such index: it is MariaDB. Source: MySQL 8.4 Error Reference, ER_FT_MATCHING_KEY_NOT_FOUND."""

_USER = chats.c.user_id == bindparam("b_user")
_CHAT = chats.c.id == bindparam("b_chat")
_OWN = and_(_CHAT, _USER, chats.c.deleted_at.is_(None))
_NEW = messages.alias("new")
_PREVIEW = (
    select(func.substr(_NEW.c.content, 1, _RAW_CHARACTERS))
    .where(_NEW.c.chat_id == chats.c.id, _NEW.c.content != "")
    .order_by(_NEW.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_RUNNING = messages.alias("running")
_ACTIVE_IDS = (
    select(func.group_concat(_RUNNING.c.id))
    .where(_RUNNING.c.chat_id == chats.c.id, _RUNNING.c.active_session.is_not(None))
    .scalar_subquery()
)
_SUMMARY = (chats.c.id, chats.c.title, chats.c.model, chats.c.created_at, chats.c.updated_at)
_DETAILS = select(*_SUMMARY, chats.c.system_prompt, _ACTIVE_IDS.label("active_ids")).where(_OWN)
_HEAD = (messages.c.seq, messages.c.id, messages.c.reply_to, messages.c.parent_id, messages.c.is_aside)
_HEADS = (
    select(
        *_HEAD,
        (func.length(messages.c.content) + func.coalesce(func.length(messages.c.reasoning), 0)).label("size"),
    )
    .where(messages.c.chat_id == bindparam("b_chat"), messages.c.seq < bindparam("b_before"))
    .order_by(messages.c.seq.desc())
    .limit(bindparam("b_rows"))
)
_MAX_SEQ = 2**31 - 1
_PAGE = (
    select(messages, message_feedback.c.rating, message_feedback.c.comment)
    .outerjoin(
        message_feedback,
        and_(message_feedback.c.chat_id == messages.c.chat_id, message_feedback.c.message_id == messages.c.id),
    )
    .where(messages.c.chat_id == bindparam("b_chat"), messages.c.seq.in_(bindparam("b_seqs", expanding=True)))
    .order_by(messages.c.seq)
)
_SOURCES = (
    select(message_sources.c.message_id, message_sources.c.title, message_sources.c.url)
    .where(
        message_sources.c.chat_id == bindparam("b_chat"),
        message_sources.c.message_id.in_(bindparam("b_ids", expanding=True)),
    )
    .order_by(message_sources.c.message_id, message_sources.c.position)
)
_RUNNING_ANSWERS = select(messages).where(
    messages.c.chat_id == bindparam("b_chat"), messages.c.active_session.is_not(None)
)
_ANSWER_ID = select(messages.c.id).where(
    messages.c.chat_id == bindparam("b_chat"), messages.c.id == bindparam("b_message"), messages.c.reply_to.is_not(None)
)


class SqlChatLibrary:
    """Shares its connections with whatever else the process does on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_fulltext = database.engine.dialect.name == "mysql"

    async def list_chats(
        self, user_id: str, after: Place | None, limit: int, words: Sequence[str] = ()
    ) -> list[ChatSummary]:
        values: dict[str, Any] = {"b_user": user_id}
        if after is not None:
            values |= {"b_updated_at": after.updated_at, "b_after": after.chat_id}

        def work(connection: Connection) -> list[ChatSummary]:
            if self._has_fulltext and words:
                try:
                    return _list(connection, _page(after, limit, words, with_fulltext=True), values, words)
                except DBAPIError as error:
                    if getattr(error.orig, "args", (0,))[0] != NO_FULLTEXT_INDEX:
                        raise
                    self._has_fulltext = False
            return _list(connection, _page(after, limit, words, with_fulltext=False), values, words)

        return await self._database.run(work)

    async def read_chat(self, chat_id: str, user_id: str) -> ChatDetails:
        values = {"b_chat": chat_id, "b_user": user_id}
        row = await self._database.run(lambda connection: connection.execute(_DETAILS, values).first())
        if row is None:
            raise ChatNotFound
        return _details(row)

    async def change_chat(
        self, chat_id: str, user_id: str, change: ChatChange, is_expected: Callable[[ChatDetails], bool]
    ) -> ChatDetails:
        own = {"b_chat": chat_id, "b_user": user_id}

        def work(connection: Connection) -> ChatDetails:
            with transaction(connection):
                locked = _DETAILS.with_for_update(of=chats) if connection.dialect.name == "mysql" else _DETAILS
                row = connection.execute(locked, own).first()
                if row is None:
                    raise ChatNotFound
                if not is_expected(_details(row)):
                    raise ChatChanged
                if values := _changed(change):
                    connection.execute(update(chats).where(_OWN).values(**values), own)
                    if change.title is not None:
                        index_title(connection, chat_id, user_id, change.title[0])
                changed = connection.execute(_DETAILS, own).one()
            return _details(changed)

        return await self._database.run(work)

    async def list_messages(
        self, chat_id: str, view: MessageView, before: tuple[int, str] | None, limit: int, max_bytes: int
    ) -> tuple[list[StoredMessage], tuple[int, str] | None]:
        def work(connection: Connection) -> tuple[list[StoredMessage], tuple[int, str] | None]:
            start = before or _start(connection, chat_id, view)
            seqs, rest = _choose(connection, chat_id, start, limit, max_bytes)
            return _load(connection, chat_id, seqs), rest

        return await self._database.run(work)

    async def running_answers(self, chat_id: str) -> list[StoredAnswer]:
        def work(connection: Connection) -> list[StoredAnswer]:
            rows = connection.execute(_RUNNING_ANSWERS, {"b_chat": chat_id}).mappings()
            return [stored_answer(row, ()) for row in rows]

        return await self._database.run(work)

    async def chat_ids(self, user_id: str, limit: int) -> list[str]:
        statement = select(chats.c.id).where(_USER).order_by(chats.c.updated_at.desc()).limit(limit)
        return await self._database.run(
            lambda connection: [row.id for row in connection.execute(statement, {"b_user": user_id})]
        )

    async def count_chats(self, user_id: str) -> int:
        statement = select(func.count()).select_from(chats).where(_USER)
        found = await self._database.run(lambda connection: connection.execute(statement, {"b_user": user_id}).scalar())
        return int(found or 0)

    async def expired_chats(self, before: datetime | None, limit: int) -> list[tuple[str, str]]:
        due = [select(chats.c.id, chats.c.user_id).where(chats.c.deleted_at.is_not(None)).limit(limit)]
        if before is not None:
            due.append(select(chats.c.id, chats.c.user_id).where(chats.c.updated_at < before).limit(limit))

        def work(connection: Connection) -> list[tuple[str, str]]:
            found = [(row.id, row.user_id) for statement in due for row in connection.execute(statement)]
            return list(dict.fromkeys(found))[:limit]

        return await self._database.run(work)

    async def mark_deleted(self, chat_id: str, user_id: str, now: datetime) -> None:
        statement = update(chats).where(_CHAT, _USER).values(deleted_at=func.coalesce(chats.c.deleted_at, now))
        values = {"b_chat": chat_id, "b_user": user_id}
        if await self._database.run(lambda connection: connection.execute(statement, values).rowcount) == 0:
            raise ChatNotFound

    async def next_part(self, chat_id: str) -> ChatPart:
        statement = select(messages.c.seq, messages.c.id, messages.c.session_id).filter_by(chat_id=chat_id)
        statement = statement.order_by(messages.c.seq).limit(ROWS_AT_ONCE)
        found = await self._database.run(lambda connection: connection.execute(statement).all())
        return ChatPart([row.id for row in found], sorted({row.session_id for row in found}))

    async def delete_part(self, chat_id: str, part: ChatPart) -> None:
        await self._database.run(lambda connection: _delete_part(connection, chat_id, part))

    async def delete_rest(self, chat_id: str) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(delete(search_texts).filter_by(chat_id=chat_id))
                connection.execute(delete(chats).where(chats.c.id == chat_id))

        await self._database.run(work)

    async def put_feedback(self, chat_id: str, message_id: str, feedback: Feedback, now: datetime) -> None:
        key = {"chat_id": chat_id, "message_id": message_id}
        given = {"rating": feedback.rating, "comment": feedback.comment, "created_at": now}

        def work(connection: Connection) -> None:
            _require_answer(connection, chat_id, message_id)
            try:
                connection.execute(insert(message_feedback), {**key, **given})
            except IntegrityError:
                connection.execute(update(message_feedback).filter_by(**key).values(**given))

        await self._database.run(work)

    async def delete_feedback(self, chat_id: str, message_id: str) -> None:
        def work(connection: Connection) -> None:
            _require_answer(connection, chat_id, message_id)
            connection.execute(delete(message_feedback).filter_by(chat_id=chat_id, message_id=message_id))

        await self._database.run(work)


def _page(after: Place | None, limit: int, words: Sequence[str], with_fulltext: bool) -> Select[Any]:
    """Return the statement for a page of chats, by the index on user and time."""
    found = _excerpt(words).label("found") if words else literal_column("NULL").label("found")
    statement = select(*_SUMMARY, _PREVIEW.label("preview"), _ACTIVE_IDS.label("active_ids"), found).where(
        _USER, chats.c.deleted_at.is_(None)
    )
    if after is not None:
        updated_at = bindparam("b_updated_at", type_=chats.c.updated_at.type)
        statement = statement.where(
            chats.c.updated_at <= updated_at, (chats.c.updated_at < updated_at) | (chats.c.id < bindparam("b_after"))
        )
    if words:
        statement = statement.where(chats.c.id.in_(_matching(words, with_fulltext)))
    return statement.order_by(chats.c.updated_at.desc(), chats.c.id.desc()).limit(limit)


def _matching(words: Sequence[str], with_fulltext: bool) -> Select[Any]:
    """Return the chats with a text that holds all words. The index finds candidates by runs of letters and digits."""
    statement = select(search_texts.c.chat_id).where(
        search_texts.c.user_id == bindparam("b_user"), *_holding(search_texts.c.content, words)
    )
    runs = [run for word in words for run in _RUN.findall(word)]
    if with_fulltext and runs:
        match = text("MATCH (search_texts.content) AGAINST (:b_phrases IN BOOLEAN MODE)")
        statement = statement.where(match.bindparams(b_phrases=" ".join(f'+"{run}"' for run in runs)))
    return statement


_RUN = re.compile(r"[^\W_]{2,}")
"""What the ngram parser indexes, in pieces of two. Source: MySQL reference manual, `ngram_token_size`."""


def _holding(column: ColumnElement[str], words: Sequence[str]) -> list[ColumnElement[bool]]:
    return [column.ilike(f"%{_escaped(word)}%", escape="!") for word in words]


def _escaped(word: str) -> str:
    return word.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _excerpt(words: Sequence[str]) -> Any:
    """Return, of the first text of a chat that holds all words, what is around the first of them."""
    one = search_texts.alias("one")
    place = func.instr(func.lower(one.c.content), func.lower(words[0]))
    start = case((place > _BEFORE_MATCH, place - _BEFORE_MATCH), else_=1)
    return (
        select(func.substr(one.c.content, start, _RAW_CHARACTERS))
        .where(one.c.chat_id == chats.c.id, *_holding(one.c.content, words))
        .limit(1)
        .scalar_subquery()
    )


def _list(
    connection: Connection, statement: Select[Any], values: dict[str, Any], words: Sequence[str]
) -> list[ChatSummary]:
    return [
        ChatSummary(
            row.id,
            row.title,
            row.model,
            row.created_at,
            row.updated_at,
            _ids(row.active_ids),
            preview(row.preview or ""),
            snippet(row.found or row.title or "", words) if words else None,
        )
        for row in connection.execute(statement, values)
    ]


def _details(row: Loose) -> ChatDetails:
    return ChatDetails(
        row.id, row.title, row.system_prompt, row.model, row.created_at, row.updated_at, _ids(row.active_ids)
    )


def _ids(joined: str | None) -> list[str]:
    return sorted(joined.split(",")) if joined else []


def _changed(change: ChatChange) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.title is not None:
        values |= {"title": change.title[0], "has_own_title": change.title[0] is not None}
    if change.system_prompt is not None:
        values["system_prompt"] = change.system_prompt[0]
    if change.model is not None:
        values["model"] = change.model[0]
    return values


def _start(connection: Connection, chat_id: str, view: MessageView) -> tuple[int, str]:
    """Return where a view begins: before which number, with which message; empty for any."""
    if view.is_whole_tree:
        return _MAX_SEQ + 1, PathFinder.ANY
    if view.leaf_id is None:
        return _MAX_SEQ + 1, PathFinder.LEAF
    leaf = select(messages.c.seq).where(messages.c.chat_id == chat_id, messages.c.id == view.leaf_id)
    found = connection.execute(leaf).scalar()
    if found is None:
        raise MessageNotFound
    return int(found) + 1, view.leaf_id


def _choose(
    connection: Connection, chat_id: str, start: tuple[int, str], limit: int, max_bytes: int
) -> tuple[list[int], tuple[int, str] | None]:
    """Return the numbers of a page's messages, and where the page before it ends; None at the beginning."""
    before, wanted = start
    path, size = PathFinder(wanted), 0
    seqs: list[int] = []
    count = max(limit + 1, MIN_HEADS)
    while True:
        rows = connection.execute(_HEADS, {"b_chat": chat_id, "b_before": before, "b_rows": count}).all()
        is_met = False
        for row in rows:
            before = row.seq
            if not path.takes(row):
                continue
            if seqs and (len(seqs) == limit or size + row.size > max_bytes):
                return seqs, (row.seq + 1, row.id if wanted != PathFinder.ANY else PathFinder.ANY)
            is_met = True
            seqs.append(row.seq)
            size += row.size
            path.follow(row)
        if len(rows) < count or path.is_whole:
            return seqs, None
        if path.wanted_id is not None and not is_met:  # messages of other branches are in between
            before = 1 + (connection.execute(SEQ_OF, {"b_chat": chat_id, "b_message": path.wanted_id}).scalar() or 0)


def _load(connection: Connection, chat_id: str, seqs: Sequence[int]) -> list[StoredMessage]:
    if not seqs:
        return []
    rows = connection.execute(_PAGE, {"b_chat": chat_id, "b_seqs": list(seqs)}).mappings().all()
    answers = [row["id"] for row in rows if row["reply_to"] is not None and row["status"] != Status.STREAMING]
    sources: dict[str, list[Source]] = {}
    if answers:
        for message_id, title, url in connection.execute(_SOURCES, {"b_chat": chat_id, "b_ids": answers}):
            sources.setdefault(message_id, []).append(Source(title, url))
    return [_message(row, sources.get(row["id"], ())) for row in rows]


def _message(row: Any, sources: Sequence[Source]) -> StoredMessage:
    is_answer = row["reply_to"] is not None
    return StoredMessage(
        id=row["id"],
        seq=row["seq"],
        role=row["role"],
        parent_id=row["reply_to"] if is_answer else row["parent_id"] or None,
        content=row["content"],
        reasoning=row["reasoning"] or "",
        sources=sources,
        status=Status(row["status"]),
        finish_reason=row["finish_reason"],
        error_code=row["error_code"],
        truncated=bool(row["truncated"]),
        model=row["model"],
        usage=usage_of(row),
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        feedback=Feedback(row["rating"], row["comment"]) if row["rating"] is not None else None,
    )


def _require_answer(connection: Connection, chat_id: str, message_id: str) -> None:
    if connection.execute(_ANSWER_ID, {"b_chat": chat_id, "b_message": message_id}).first() is None:
        raise MessageNotFound


def _delete_part(connection: Connection, chat_id: str, part: ChatPart) -> None:
    """Delete these messages with all that belongs to them."""
    with transaction(connection):
        for table in (message_sources, message_feedback, search_texts):
            connection.execute(
                delete(table).where(table.c.chat_id == chat_id, table.c.message_id.in_(part.message_ids))
            )
        connection.execute(delete(messages).where(messages.c.chat_id == chat_id, messages.c.id.in_(part.message_ids)))
