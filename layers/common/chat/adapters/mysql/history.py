"""Reads what was said before: the path from a message's parent to the beginning, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from chat.adapters.mysql.batch import Statement, run_batch
from chat.adapters.mysql.path import PathFinder
from chat.adapters.mysql.statements import ASIDES, HISTORY_PAGE, SEQ_OF
from chat.domain.errors import FailureCode
from chat.domain.model import QuestionAnswer, Status

PAGES = (64, 128, 256, 512, 1024, *([64] * 59))
"""How many messages are read at once; one page is enough for most chats, and nobody needs more than all of them."""


class History:
    """The newest exchanges of the path that ends with an answer: as many as come to `enough_bytes` of UTF-8.

    `seqs` are the numbers of the message that follows the path and of its new answer: when a message is sent once more,
    earlier ones may have been answered after it. Without an answer's id, as before there were branches, the path ends
    with the newest answer before the message. Every message was stored before those that follow it, so one look
    backwards meets the whole path; where a page holds nothing of it, the next one begins at the message that is looked
    for.
    """

    def __init__(self, chat_id: str, answer_id: str | None, seqs: tuple[int, int], enough_bytes: int) -> None:
        self._chat_id, self._enough_bytes = chat_id, enough_bytes
        question_seq, self._before_seq = seqs
        self._path = _Path(answer_id)
        if answer_id is None and question_seq < self._before_seq:
            self._before_seq, self._path.has_gap = question_seq, True

    @property
    def first_page(self) -> Statement:
        """What reads the first page; most chats need no other."""
        return self._page(PAGES[0])

    def read(self, connection: Connection, first_rows: Sequence[Any]) -> list[QuestionAnswer]:
        """Return the exchanges, oldest first, given the first page; reads further ones as far as they are needed."""
        path, rows = self._path, first_rows
        for page, following in pairwise((*PAGES, 0)):
            is_met = path.add(rows, self._enough_bytes)
            if len(rows) < page or path.is_enough or not following:
                break
            if not self._go_on(connection, rows[-1].seq, is_met):
                break
            rows = run_batch(connection, [self._page(following)])[0].rows
        if path.has_gap:
            asked = {"b_chat": self._chat_id, "b_questions": [question.id for question, _ in path.pairs]}
            path.add_asides(connection.execute(ASIDES, asked).all())
        return list(path.exchanges())[::-1]

    def _go_on(self, connection: Connection, seq: int, is_met: bool) -> bool:
        """Find where the next page begins; False when the path leads nowhere."""
        self._before_seq, path = seq, self._path
        if is_met or path.wanted_id is None:
            return True
        found = connection.execute(SEQ_OF, {"b_chat": self._chat_id, "b_message": path.wanted_id}).scalar()
        if found is not None:
            self._before_seq, path.has_gap = found + 1, True
        return found is not None

    def _page(self, rows: int) -> Statement:
        return HISTORY_PAGE, {"b_chat": self._chat_id, "b_before": self._before_seq, "b_rows": rows}


class _Path:
    """Picks a path's questions and answers, newest first, out of a chat's messages, newest first."""

    def __init__(self, answer_id: str | None) -> None:
        self._finder = PathFinder(PathFinder.ANSWER if answer_id is None else answer_id)
        self.pairs: list[tuple[Any, Any]] = []
        self.is_enough = False
        self.has_gap = False
        """Not all messages that are newer than the path's have been read: an aside may be among them."""
        self._answer: Any | None = None
        self._size = 0
        self._asides: dict[str, str] = {}
        """What answers said that stand aside, by their message: newer tries where the path's own one failed."""

    @property
    def wanted_id(self) -> str | None:
        """The message that is looked for next; None for whichever answer comes."""
        return self._finder.wanted_id

    def add(self, rows: Sequence[Any], enough_bytes: int) -> bool:
        """Take further rows and tell whether any is on the path."""
        is_met = False
        for row in rows:
            if self._finder.takes(row):
                is_met = True
                self._take(row, enough_bytes)
                if self.is_enough:
                    break
            elif row.is_aside and row.reply_to is not None and row.status != Status.STREAMING:
                self.add_asides([row])
        return is_met

    def add_asides(self, rows: Sequence[Any]) -> None:
        for row in rows:
            if row.content:
                self._asides.setdefault(row.reply_to, row.content)

    def _take(self, row: Any, enough_bytes: int) -> None:
        self._finder.follow(row)
        self._size += len(row.content.encode())
        if row.reply_to is not None:
            self._answer = row
        elif self._answer is not None:
            self.pairs.append((row, self._answer))
            self.is_enough = self._finder.is_whole or self._size >= enough_bytes

    def exchanges(self) -> Iterator[QuestionAnswer]:
        """Yield what was asked and said, newest first."""
        for question, answer in self.pairs:
            if answer.status == Status.STREAMING:
                continue  # another device waits for it: what was asked there is not asked here
            said = self._asides.get(question.id) or answer.content
            if said or answer.error_code != FailureCode.AI_REJECTED:  # it would be refused again
                yield QuestionAnswer(question.content, said, question.id)
