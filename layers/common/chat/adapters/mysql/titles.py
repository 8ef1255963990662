"""Titles of chats, and how the search finds them: under the message id that no message has."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from chat.adapters.mysql.database import transaction
from chat.adapters.mysql.tables import chats, search_texts
from chat.domain.model import ROOT

_CHAT = chats.c.id == bindparam("b_chat")
_SET_TITLE = (
    update(chats)
    .where(_CHAT, chats.c.deleted_at.is_(None), func.coalesce(chats.c.has_own_title, False).is_(False))
    .values(title=bindparam("b_title"))
)
_OWNER = select(chats.c.user_id).where(_CHAT)


def set_title(connection: Connection, chat_id: str, title: str) -> bool:
    """Give a chat a title unless a person has given it one; tell whether that was done."""
    with transaction(connection):
        if connection.execute(_SET_TITLE, {"b_chat": chat_id, "b_title": title}).rowcount == 0:
            return False
        index_title(connection, chat_id, connection.execute(_OWNER, {"b_chat": chat_id}).scalar_one(), title)
        return True


def index_title(connection: Connection, chat_id: str, user_id: str, title: str | None) -> None:
    """Let the search find a chat by this title and by no other; with None by none."""
    key = {"chat_id": chat_id, "message_id": ROOT}
    connection.execute(delete(search_texts).filter_by(**key))
    if title is not None:
        connection.execute(insert(search_texts), {**key, "user_id": user_id, "content": title})
