"""The start of an answer: one transaction that decides, stores both messages and reads the history.

It first takes sequence numbers from the chat's row. That row's lock puts all who write into the chat in line. (A read
before it would fix an old snapshot under REPEATABLE READ.) Then it stores both messages as if they were new: the unique
keys refuse a message that came before and a second active answer of a session, and only then it is asked which it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chat.adapters.mysql.batch import Statement, begin, commit
from chat.adapters.mysql.database import rolled_back_on_error
from chat.adapters.mysql.history import History
from chat.adapters.mysql.rows import FIRST_SEQ, load_answer, opening_rows
from chat.adapters.mysql.statements import (
    ACTIVE_OF,
    ANSWER,
    CONTENT,
    FOLLOWER,
    GIVE_ONE_BACK,
    INSERT_MESSAGES,
    MESSAGE_HEAD,
    RUNNING_ANSWER_TO,
    STANDING,
    TAKE_SEQ,
    TAKEN,
)
from chat.domain.errors import ChatNotFound, IdempotencyConflict, MessageNotFound
from chat.domain.model import ROOT, AlreadyAnswered, NewAnswer, SessionBusy, Started, Status
from chat.domain.title import title_from


def open_answer(
    connection: Connection, opening: NewAnswer, history_bytes: int
) -> Started | AlreadyAnswered | SessionBusy:
    """Do what `Chats.open_answer` says; for a new message in two round trips: up to its place, and up to COMMIT."""
    try:
        with rolled_back_on_error(connection):
            started, history, rows = _open(connection, opening, history_bytes)
    except _InTheWay as found:
        values = {"b_chat": opening.identity.chat_id, "b_message": found.message_id}
        answer = load_answer(connection, ANSWER, values)
        if answer is None:
            raise ChatNotFound from None  # deleted a moment ago
        return AlreadyAnswered(answer) if found.is_same_message else SessionBusy(answer)
    return replace(started, history=history.read(connection, rows) if history else [])


_Opened = tuple[Started, History | None, Sequence[Any]]
"""The answer, stored; how its history is read; and the first page of that."""


class _InTheWay(Exception):
    """An answer that exists already decides; leaving the transaction gives the sequence numbers back."""

    def __init__(self, message_id: str, is_same_message: bool) -> None:
        super().__init__(message_id)
        self.message_id = message_id
        self.is_same_message = is_same_message


def _open(connection: Connection, opening: NewAnswer, history_bytes: int) -> _Opened:
    chat = _take(connection, opening)
    if chat.model in opening.chat_models:
        opening = replace(opening, identity=replace(opening.identity, model=chat.model))
    if opening.is_regeneration:
        return _open_again(connection, opening, chat, history_bytes)
    seq = chat.next_seq - 2
    parent_id: str | None = _parent(connection, opening, chat)
    rows = opening_rows(opening, seq, is_first=True, parent_id=parent_id)
    history = _history(opening, parent_id, (seq, seq), history_bytes)
    started = Started(chat.system_prompt, (), True, opening.content, opening.identity.model, chat.window_from)
    question_seq = seq
    try:
        page = _commit(connection, [(INSERT_MESSAGES, rows)], history)
    except IntegrityError:
        sent = _sent_before(connection, opening)
        if sent is None:
            raise
        (row,) = opening_rows(opening, seq, is_first=False, is_aside=sent.is_followed)
        history = _history(opening, sent.parent_id, (sent.seq, seq), history_bytes)
        page = _commit(connection, [(GIVE_ONE_BACK, {"b_chat": row["chat_id"]}), (INSERT_MESSAGES, row)], history)
        started, question_seq = replace(started, is_first=False), sent.seq
    return replace(started, wants_title=question_seq == FIRST_SEQ and not chat.has_own_title), history, page


def _open_again(connection: Connection, opening: NewAnswer, chat: Any, history_bytes: int) -> _Opened:
    """Store another answer to a message that is stored, beside those that are there."""
    who, seq = opening.identity, chat.next_seq - 2
    question = connection.execute(MESSAGE_HEAD, {"b_chat": who.chat_id, "b_message": who.user_message_id}).first()
    if question is None or question.reply_to is not None:
        raise MessageNotFound
    asked = {"b_chat": who.chat_id, "b_question": who.user_message_id}
    if (running := connection.execute(RUNNING_ANSWER_TO, asked).first()) is not None:
        raise _InTheWay(running.id, is_same_message=running.id == who.message_id)
    (row,) = opening_rows(opening, seq, is_first=False)
    history = _history(opening, question.parent_id, (question.seq, seq), history_bytes)
    try:
        page = _commit(connection, [(GIVE_ONE_BACK, {"b_chat": who.chat_id}), (INSERT_MESSAGES, row)], history)
    except IntegrityError:
        same = connection.execute(MESSAGE_HEAD, {"b_chat": who.chat_id, "b_message": who.message_id}).first()
        if same is not None and same.reply_to == who.user_message_id:
            raise _InTheWay(who.message_id, is_same_message=True) from None
        if same is not None:
            raise IdempotencyConflict("This attemptId came before with another message: choose a new one.") from None
        active = load_answer(connection, ACTIVE_OF, {"b_chat": who.chat_id, "b_session": who.session_id})
        if active is None:
            raise
        raise _InTheWay(active.identity.message_id, is_same_message=False) from None
    return Started(chat.system_prompt, (), False, question.content, who.model, chat.window_from), history, page


def _commit(connection: Connection, changes: list[Statement], history: History | None) -> Sequence[Any]:
    """Make the changes, commit them and return the history's first page, as `commit`."""
    pages = [] if history is None else [history.first_page]
    results = commit(connection, [*changes, *pages])
    return results[-1].rows if pages else ()


def _history(opening: NewAnswer, parent_id: str | None, seqs: tuple[int, int], history_bytes: int) -> History | None:
    """Return what reads the exchanges before a message, whose number and whose new answer's number are `seqs`."""
    if parent_id == ROOT or seqs[0] <= FIRST_SEQ:
        return None
    return History(opening.identity.chat_id, parent_id, seqs, history_bytes)


def _parent(connection: Connection, opening: NewAnswer, chat: Any) -> str:
    """Return the answer that the message follows, ROOT for none.

    Raises:
        MessageNotFound: the chat has no such answer.
        _InTheWay: that answer is running.
    """
    if opening.parent_id is None:
        return str(chat.leaf_id or ROOT)
    if opening.parent_id == ROOT:
        return ROOT
    values = {"b_chat": opening.identity.chat_id, "b_message": opening.parent_id}
    parent = connection.execute(MESSAGE_HEAD, values).first()
    if parent is None or parent.reply_to is None:
        raise MessageNotFound
    if parent.status == Status.STREAMING:
        raise _InTheWay(opening.parent_id, is_same_message=False)
    return opening.parent_id


def _take(connection: Connection, opening: NewAnswer) -> Any:
    """Begin the transaction, take sequence numbers and read the chat: one round trip."""
    place = {"b_chat": opening.identity.chat_id, "b_user": opening.user_id}
    change = {"b_now": opening.now, "b_title": title_from(opening.content)}
    chat = {"b_chat": opening.identity.chat_id}
    taken, found = begin(connection, [(TAKE_SEQ, place | change), (TAKEN, chat)])
    if taken.rowcount == 0:
        raise ChatNotFound
    return found.rows[0]


class _Sent(NamedTuple):
    """A message that came before."""

    seq: int
    parent_id: str | None
    is_followed: bool
    """Another message follows one of its answers."""


def _sent_before(connection: Connection, opening: NewAnswer) -> _Sent | None:
    """Return the message if it came before and may be answered once more; None if it never came.

    Raises:
        _InTheWay: the message's newest answer, or the session's active one.
        IdempotencyConflict: it came with other content, or after another answer.
    """
    who = opening.identity
    sent = {"b_chat": who.chat_id, "b_question": who.user_message_id, "b_session": who.session_id}
    standing = connection.execute(STANDING, sent).one()
    if standing.sent_seq is not None:
        came_before(connection, who.chat_id, who.user_message_id, opening.content)
        if opening.parent_id is not None and standing.sent_parent_id not in (None, opening.parent_id):
            raise IdempotencyConflict("This userMessageId came before with another parentMessageId: choose a new one.")
    _must_be_free(standing)
    if standing.sent_seq is None:
        return None
    is_followed = connection.execute(FOLLOWER, sent).first() is not None
    return _Sent(standing.sent_seq, standing.sent_parent_id, is_followed)


def came_before(connection: Connection, chat_id: str, user_message_id: str, content: str) -> bool:
    """Tell whether the user's message is stored.

    Raises:
        IdempotencyConflict: it came with other content.
    """
    sent = connection.execute(CONTENT, {"b_chat": chat_id, "b_message": user_message_id}).first()
    if sent is not None and (sent.reply_to is not None or sent.content != content):
        raise IdempotencyConflict("This userMessageId came before with other content: choose a new one.")
    return sent is not None


def _must_be_free(standing: Any) -> None:
    """Raise what is in the way: the message's newest answer, or the session's active one."""
    if standing.told_id is not None and not Status(standing.told_status).retryable:
        raise _InTheWay(standing.told_id, is_same_message=True)
    if standing.active_id is not None:
        raise _InTheWay(standing.active_id, is_same_message=False)
