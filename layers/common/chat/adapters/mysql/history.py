"""Reads what was said before: the newest answered messages of a chat, page by page, until there is enough."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from chat.adapters.mysql.tables import messages
from chat.model import Exchange, Status

PAGE_ROWS = 40
MOST_PAGES = 8

_PAGE = (
    select(
        messages.c.seq,
        messages.c.id,
        messages.c.role,
        messages.c.content,
        messages.c.status,
        messages.c.reply_to,
    )
    .where(messages.c.chat_id == bindparam("b_chat"), messages.c.seq < bindparam("b_before"))
    .order_by(messages.c.seq.desc())
    .limit(PAGE_ROWS)
)


def read_history(connection: Connection, chat_id: str, before_seq: int, enough_bytes: int) -> list[Exchange]:
    """Return exchanges before `before_seq`, oldest first, the newest ones that come to `enough_bytes` of UTF-8 or all.

    An exchange is a message and the text of its newest answer that has ended and has any.
    """
    found: list[Exchange] = []
    answers: dict[str, str] = {}
    size = 0
    for _ in range(MOST_PAGES):
        rows = connection.execute(_PAGE, {"b_chat": chat_id, "b_before": before_seq}).all()
        for row in rows:
            before_seq = row.seq
            if row.role == "assistant":
                if row.status != Status.STREAMING and row.content:
                    answers.setdefault(row.reply_to, row.content)
            elif row.id in answers:
                found.append(Exchange(row.content, answers.pop(row.id)))
                size += len(found[-1].question.encode()) + len(found[-1].answer.encode())
        if len(rows) < PAGE_ROWS or size >= enough_bytes:
            break
    return found[::-1]
