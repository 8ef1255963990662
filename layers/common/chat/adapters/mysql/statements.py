"""Every statement, built once and alike on MySQL and SQLite. What they mean together is in `opening` and `chats`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, func, insert, select, text, union_all, update

from chat.adapters.mysql.tables import chats, message_sources, messages, search_texts
from chat.domain.model import Status

_CHAT: BindParameter[Any] = bindparam("b_chat")
_USER: BindParameter[Any] = bindparam("b_user")
_SESSION: BindParameter[Any] = bindparam("b_session")
_MESSAGE: BindParameter[Any] = bindparam("b_message")
_QUESTION: BindParameter[Any] = bindparam("b_question")

_IS_CHAT = and_(chats.c.id == _CHAT, chats.c.user_id == _USER, chats.c.deleted_at.is_(None))
_IS_MESSAGE = and_(messages.c.chat_id == _CHAT, messages.c.id == _MESSAGE)
_IS_OWN = and_(_IS_MESSAGE, messages.c.status == Status.STREAMING, messages.c.owner_token == bindparam("b_token"))
_NEWEST = messages.c.seq.desc()

PING = text("SELECT 1")

INSERT_CHAT = insert(chats)
_STORED_CHAT = select(
    chats.c.id,
    chats.c.user_id,
    chats.c.title,
    chats.c.system_prompt,
    chats.c.created_at,
    chats.c.idempotency_digest,
)
CHAT_BY_KEY = _STORED_CHAT.where(chats.c.user_id == _USER, chats.c.idempotency_key == bindparam("b_key"))
CHAT_BY_ID = _STORED_CHAT.where(chats.c.user_id == _USER, chats.c.id == _CHAT)
OWN_CHAT = select(chats.c.id).where(_IS_CHAT)

TAKE_SEQ = (
    update(chats)
    .where(_IS_CHAT)
    .values(
        next_seq=chats.c.next_seq + 2,
        updated_at=bindparam("b_now"),
        title=func.coalesce(chats.c.title, bindparam("b_title")),
    )
)
"""Locks the chat's row until the transaction ends: all who open answers in a chat come one after the other."""
_LEAF = messages.alias("leaf")
_NEWEST_LEAF = (
    select(_LEAF.c.id)
    .where(_LEAF.c.chat_id == _CHAT, func.coalesce(_LEAF.c.is_aside, False).is_(False))
    .order_by(_LEAF.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
"""The end of the active branch: what was stored last, but for answers that stand aside. It is always an answer."""
TAKEN = select(
    chats.c.next_seq,
    chats.c.system_prompt,
    chats.c.model,
    chats.c.window_from,
    chats.c.has_own_title,
    _NEWEST_LEAF.label("leaf_id"),
).where(chats.c.id == _CHAT)
KEEP_WINDOW = update(chats).where(chats.c.id == _CHAT).values(window_from=bindparam("b_first"))
GIVE_ONE_BACK = update(chats).where(chats.c.id == _CHAT).values(next_seq=chats.c.next_seq - 1)

_SENT, _TOLD, _ACTIVE = messages.alias("sent"), messages.alias("told"), messages.alias("active")
STANDING = (
    select(
        _SENT.c.seq.label("sent_seq"),
        _SENT.c.parent_id.label("sent_parent_id"),
        _TOLD.c.id.label("told_id"),
        _TOLD.c.status.label("told_status"),
        _ACTIVE.c.id.label("active_id"),
    )
    .select_from(
        chats.outerjoin(_SENT, and_(_SENT.c.chat_id == chats.c.id, _SENT.c.id == _QUESTION))
        .outerjoin(_TOLD, and_(_TOLD.c.chat_id == chats.c.id, _TOLD.c.reply_to == _QUESTION))
        .outerjoin(_ACTIVE, and_(_ACTIVE.c.chat_id == chats.c.id, _ACTIVE.c.active_session == _SESSION))
    )
    .where(chats.c.id == _CHAT)
    .order_by(_TOLD.c.seq.desc())
    .limit(1)
)
"""The message if it came before, the newest answer to it, the session's active answer: three look-ups in indexes.

One join with OR reads the whole chat instead. Asked only when the keys have refused a message: three joins cost MySQL
more than all else before COMMIT.
"""
CONTENT = select(messages.c.content, messages.c.reply_to).where(_IS_MESSAGE)
MESSAGE_HEAD = select(
    messages.c.seq, messages.c.status, messages.c.reply_to, messages.c.parent_id, messages.c.content
).where(_IS_MESSAGE)
_ANSWERED = messages.alias("answered")
FOLLOWER = (
    select(messages.c.id)
    .join(_ANSWERED, and_(_ANSWERED.c.chat_id == messages.c.chat_id, _ANSWERED.c.id == messages.c.parent_id))
    .where(messages.c.chat_id == _CHAT, _ANSWERED.c.chat_id == _CHAT, _ANSWERED.c.reply_to == _QUESTION)
    .limit(1)
)
"""A message that follows any answer to this one. Reads the chat: asked only when a message is sent once more."""
RUNNING_ANSWER_TO = (
    select(messages.c.id)
    .where(messages.c.chat_id == _CHAT, messages.c.reply_to == _QUESTION, messages.c.status == Status.STREAMING)
    .limit(1)
)
INSERT_MESSAGES = insert(messages)
HISTORY_PAGE = (
    select(
        messages.c.seq,
        messages.c.id,
        messages.c.content,
        messages.c.status,
        messages.c.error_code,
        messages.c.reply_to,
        messages.c.parent_id,
        messages.c.is_aside,
    )
    .where(messages.c.chat_id == _CHAT, messages.c.seq < bindparam("b_before"))
    .order_by(_NEWEST)
    .limit(bindparam("b_rows"))
)

SEQ_OF = select(messages.c.seq).where(_IS_MESSAGE)
ASIDES = (
    select(messages.c.reply_to, messages.c.content)
    .where(
        messages.c.chat_id == _CHAT,
        messages.c.reply_to.in_(bindparam("b_questions", expanding=True)),
        messages.c.is_aside.is_(True),
        messages.c.status != Status.STREAMING,
    )
    .order_by(_NEWEST)
)
"""What answers said that stand aside of these messages' own ones, newest first."""

_ANSWERS = select(messages).where(messages.c.chat_id == _CHAT, messages.c.reply_to.is_not(None))
ANSWER = _ANSWERS.where(messages.c.id == _MESSAGE)
ANSWER_TO = _ANSWERS.where(messages.c.reply_to == _QUESTION).order_by(_NEWEST).limit(1)
ACTIVE = _ANSWERS.where(messages.c.active_session.is_not(None)).order_by(_NEWEST).limit(1)
ACTIVE_OF = _ANSWERS.where(messages.c.active_session == _SESSION)
SOURCES = (
    select(message_sources.c.title, message_sources.c.url)
    .where(message_sources.c.chat_id == _CHAT, message_sources.c.message_id == _MESSAGE)
    .order_by(message_sources.c.position)
)

CHANGE_OWN = update(messages).where(_IS_OWN)
CHANGE_OWN_IF_SEEN_AT = CHANGE_OWN.where(messages.c.owner_seen_at == bindparam("b_seen_at"))
"""Change an answer that has not ended: asked for `streaming`, the transition to an end happens once."""
INSERT_SOURCES = insert(message_sources)

MAX_SEARCHED_CHARS = 100_000
"""Of a longer text the search finds what is in its beginning."""


def _beginning(table: Any) -> Any:
    return func.substr(table.c.content, 1, MAX_SEARCHED_CHARS).label("content")


_ENDED, _ASKED = messages.alias("ended"), messages.alias("asked")
_IS_ENDED = and_(_ENDED.c.chat_id == _CHAT, _ENDED.c.id == _MESSAGE, _ENDED.c.status != Status.STREAMING)
TEXTS_OF_ANSWER = union_all(
    select(_ENDED.c.chat_id, _ENDED.c.id.label("message_id"), chats.c.user_id, _beginning(_ENDED))
    .join(chats, chats.c.id == _ENDED.c.chat_id)
    .where(_IS_ENDED),
    select(_ASKED.c.chat_id, _ASKED.c.id, chats.c.user_id, _beginning(_ASKED))
    .select_from(_ENDED)
    .join(_ASKED, and_(_ASKED.c.chat_id == _ENDED.c.chat_id, _ASKED.c.id == _ENDED.c.reply_to))
    .join(chats, chats.c.id == _ENDED.c.chat_id)
    .where(_IS_ENDED),
)
"""What the search shall find of an answer that has ended: its text, and that of its message."""
INSERT_TEXTS = insert(search_texts).prefix_with("IGNORE", dialect="mysql").prefix_with("OR IGNORE", dialect="sqlite")
"""Texts that are there already stay as they are."""
