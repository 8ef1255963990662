"""The start of an answer: one transaction that decides, stores both messages and reads the history.

It first takes sequence numbers from the chat's row. That row's lock puts all who write into the chat in line. (A read
before it would fix an old snapshot under REPEATABLE READ.) Then it stores both messages as if they were new: the unique
keys refuse a message that came before and a second active answer of a session, and only then it is asked which it was.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from chat.adapters.mysql.database import transaction
from chat.adapters.mysql.history import read_history
from chat.adapters.mysql.rows import FIRST_SEQ, load_answer, opening_rows
from chat.adapters.mysql.statements import (
    ANSWER,
    CONTENT,
    GIVE_ONE_BACK,
    INSERT_MESSAGES,
    STANDING,
    TAKE_SEQ,
    TAKEN,
)
from chat.domain.errors import ChatNotFound, IdempotencyConflict
from chat.domain.model import AlreadyAnswered, NewAnswer, QuestionAnswer, SessionBusy, Started, Status
from chat.domain.title import title_from

Loose = Row[*tuple[Any, ...]]


def open_answer(
    connection: Connection, opening: NewAnswer, history_bytes: int
) -> Started | AlreadyAnswered | SessionBusy:
    """Do what `Chats.open_answer` says; four statements between BEGIN and COMMIT for a new message."""
    try:
        with transaction(connection):
            return _open(connection, opening, history_bytes)
    except _InTheWay as found:
        values = {"b_chat": opening.identity.chat_id, "b_message": found.message_id}
        answer = load_answer(connection, ANSWER, values)
        if answer is None:
            raise ChatNotFound from None  # deleted a moment ago
        return AlreadyAnswered(answer) if found.is_same_message else SessionBusy(answer)


class _InTheWay(Exception):
    """An answer that exists already decides; leaving the transaction gives the sequence numbers back."""

    def __init__(self, message_id: str, is_same_message: bool) -> None:
        super().__init__(message_id)
        self.message_id = message_id
        self.is_same_message = is_same_message


def _open(connection: Connection, opening: NewAnswer, history_bytes: int) -> Started:
    chat = _take(connection, opening)
    seq = question_seq = chat.next_seq - 2
    try:
        connection.execute(INSERT_MESSAGES, opening_rows(opening, seq, is_first=True))
    except IntegrityError:
        sent_seq = _sent_before(connection, opening)
        if sent_seq is None:
            raise
        connection.execute(GIVE_ONE_BACK, {"b_chat": opening.identity.chat_id})
        connection.execute(INSERT_MESSAGES, opening_rows(opening, seq, is_first=False))
        question_seq = sent_seq
    history: list[QuestionAnswer] = []
    if seq > FIRST_SEQ:
        history = read_history(connection, opening.identity.chat_id, seq, question_seq, history_bytes)
    return Started(chat.system_prompt, history, is_first=question_seq == seq)


def _take(connection: Connection, opening: NewAnswer) -> Loose:
    place = {"b_chat": opening.identity.chat_id, "b_user": opening.user_id}
    change = {"b_now": opening.now, "b_title": title_from(opening.content)}
    if connection.execute(TAKE_SEQ, {**place, **change}).rowcount == 0:
        raise ChatNotFound
    return connection.execute(TAKEN, place).one()


def _sent_before(connection: Connection, opening: NewAnswer) -> int | None:
    """Return the number of the message if it came before and may be answered anew; None if it never came.

    Raises:
        _InTheWay: the message's newest answer, or the session's active one.
        IdempotencyConflict: it came with other content.
    """
    who = opening.identity
    sent = {"b_chat": who.chat_id, "b_question": who.user_message_id, "b_session": who.session_id}
    standing = connection.execute(STANDING, sent).one()
    if standing.sent_seq is not None:
        came_before(connection, who.chat_id, who.user_message_id, opening.content)
    _must_be_free(standing)
    return cast("int | None", standing.sent_seq)


def came_before(connection: Connection, chat_id: str, user_message_id: str, content: str) -> bool:
    """Tell whether the user's message is stored.

    Raises:
        IdempotencyConflict: it came with other content.
    """
    sent = connection.execute(CONTENT, {"b_chat": chat_id, "b_message": user_message_id}).first()
    if sent is not None and (sent.reply_to is not None or sent.content != content):
        raise IdempotencyConflict("This userMessageId came before with other content: choose a new one.")
    return sent is not None


def _must_be_free(standing: Loose) -> None:
    """Raise what is in the way: the message's newest answer, or the session's active one."""
    if standing.told_id is not None and not Status(standing.told_status).retryable:
        raise _InTheWay(standing.told_id, is_same_message=True)
    if standing.active_id is not None:
        raise _InTheWay(standing.active_id, is_same_message=False)
