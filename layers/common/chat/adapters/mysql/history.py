"""Reads what was said before: the path from a message's parent to the beginning, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from chat.adapters.mysql.statements import HISTORY_PAGE
from chat.domain.errors import FailureCode
from chat.domain.model import ROOT, QuestionAnswer, Status

PAGES = (64, 128, 256, 512, 1024)
"""How many messages are read at once; one page is enough for most chats, and nobody needs more than all of them."""

Loose = Row[*tuple[Any, ...]]


def read_history(
    connection: Connection, chat_id: str, answer_id: str | None, seqs: tuple[int, int], enough_bytes: int
) -> list[QuestionAnswer]:
    """Return the newest exchanges of the path that ends with `answer_id`, oldest first.

    As many as come to `enough_bytes` of UTF-8. `seqs` are the numbers of the message that follows the path and of its
    new answer: when a message is sent once more, earlier ones may have been answered after it. Without an id the path
    ends with the newest answer before the message. Every message was stored before those that follow it, so one look
    backwards meets the whole path.
    """
    question_seq, before_seq = seqs
    path = _Path(answer_id, question_seq)
    for page in PAGES:
        rows = connection.execute(HISTORY_PAGE, {"b_chat": chat_id, "b_before": before_seq, "b_rows": page}).all()
        path.add(rows, enough_bytes)
        if len(rows) < page or path.is_whole:
            break
        before_seq = rows[-1].seq
    return path.exchanges[::-1]


class _Path:
    """Picks a path's exchanges, newest first, out of a chat's messages, newest first."""

    def __init__(self, answer_id: str | None, question_seq: int) -> None:
        self._question_seq = question_seq
        self.exchanges: list[QuestionAnswer] = []
        self.is_whole = answer_id == ROOT
        self._size = 0
        self._answer_id: str | None = answer_id
        """What is looked for next; None for whichever answer comes, as before there were branches."""
        self._question_id = ""
        self._answer: Loose | None = None
        self._asides: dict[str, str] = {}
        """What answers said that stand aside, by their message: newer tries where the path's own one failed."""

    def add(self, rows: Sequence[Loose], enough_bytes: int) -> None:
        """Take further rows; it is whole at the beginning of the chat, or when there is enough."""
        for row in rows:
            if self.is_whole:
                return
            if row.reply_to is None:
                if row.id == self._question_id:
                    self._add_exchange(row)
                    self._answer_id = row.parent_id
                    self._question_id = ""
                    self.is_whole = row.parent_id == ROOT or self._size >= enough_bytes
            elif row.is_aside and row.id != self._answer_id:
                if row.content and row.status != Status.STREAMING:
                    self._asides.setdefault(row.reply_to, row.content)
            elif self._question_id == "" and self._is_wanted(row):
                self._answer, self._question_id = row, row.reply_to

    def _is_wanted(self, answer: Loose) -> bool:
        if self._answer_id is None:
            return bool(answer.seq < self._question_seq)
        return bool(answer.id == self._answer_id)

    def _add_exchange(self, question: Loose) -> None:
        answer = self._answer
        if answer is None or answer.status == Status.STREAMING:
            return  # another device waits for it: what was asked there is not asked here
        said = self._asides.get(question.id) or answer.content
        if not said and answer.error_code == FailureCode.AI_REJECTED:
            return  # it would be refused again
        self.exchanges.append(QuestionAnswer(question.content, said))
        self._size += len(question.content.encode()) + len(said.encode())
