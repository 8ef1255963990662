"""Reads what was said before: the newest answered messages of a chat, page by page, until there is enough."""

from __future__ import annotations

from sqlalchemy import Connection

from chat.adapters.mysql.statements import HISTORY_PAGE
from chat.domain.model import QuestionAnswer, Status

PAGES = (64, 128, 256, 512, 1024)
"""How many messages are read at once; one page is enough for most chats, and nobody needs more than all of them."""


def read_history(
    connection: Connection, chat_id: str, before_seq: int, question_seq: int, enough_bytes: int
) -> list[QuestionAnswer]:
    """Return the newest exchanges that come to `enough_bytes` of UTF-8, or all, oldest first.

    Their messages come before `question_seq`, their answers before `before_seq`: when a message is sent once more,
    earlier ones may have been answered after it. An exchange is a message and the text of its newest answer that has
    ended and has any.
    """
    found: list[QuestionAnswer] = []
    answers: dict[str, str] = {}
    size = 0
    for page in PAGES:
        values = {"b_chat": chat_id, "b_before": before_seq, "b_rows": page}
        rows = connection.execute(HISTORY_PAGE, values).all()
        for seq, message_id, content, status, reply_to in rows:
            before_seq = seq
            if reply_to is not None:
                if status != Status.STREAMING and content:
                    answers.setdefault(reply_to, content)
            elif message_id in answers and seq < question_seq and size < enough_bytes:
                found.append(QuestionAnswer(content, answers.pop(message_id)))
                size += len(found[-1].question.encode()) + len(found[-1].answer.encode())
        if len(rows) < page or size >= enough_bytes:
            break
    return found[::-1]
