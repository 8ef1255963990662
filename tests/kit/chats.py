"""`Chats` in memory: what MySQL does for the use cases, in the simplest way, and able to be away."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from chat.domain.answer import Answer
from chat.domain.errors import ChatNotFound, FailureCode, IdempotencyConflict, MessageNotFound, StorageUnavailable
from chat.domain.model import (
    ROOT,
    AlreadyAnswered,
    Chat,
    FinalAnswer,
    NewAnswer,
    QuestionAnswer,
    SessionBusy,
    Started,
    Status,
    StoredAnswer,
)
from chat.domain.title import title_from


@dataclass
class Row:
    """One stored chat with its messages; a question's and an answer's place in it is their `seq`."""

    chat: Chat
    next_seq: int = 1
    questions: dict[str, tuple[int, str]] = field(default_factory=dict)
    answers: dict[str, tuple[int, StoredAnswer]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    """Which answer each question follows; ROOT for none."""
    window_from: str | None = None
    has_own_title: bool = False
    asides: set[str] = field(default_factory=set)
    """Answers to a message whose earlier answer was followed already."""

    def newest(self, answers: Iterable[tuple[int, StoredAnswer]]) -> StoredAnswer | None:
        return max(answers, key=lambda numbered: numbered[0], default=(0, None))[1]

    def newest_to(self, user_message_id: str) -> StoredAnswer | None:
        return self.newest(row for row in self.answers.values() if row[1].identity.user_message_id == user_message_id)

    def active(self, session_id: str | None) -> StoredAnswer | None:
        return self.newest(
            row
            for row in self.answers.values()
            if row[1].is_active and session_id in (None, row[1].identity.session_id)
        )

    def answer(self, message_id: str) -> StoredAnswer:
        if message_id not in self.answers:
            raise MessageNotFound
        return self.answers[message_id][1]

    def leaf(self) -> str:
        """The end of the active branch, empty where there is none."""
        answers = {answer_id: row[0] for answer_id, row in self.answers.items() if answer_id not in self.asides}
        return max(answers, key=lambda answer_id: answers[answer_id], default=ROOT)

    def is_followed(self, user_message_id: str) -> bool:
        return any(
            parent and self.answers[parent][1].identity.user_message_id == user_message_id
            for parent in self.parents.values()
        )

    def take(self) -> int:
        self.next_seq += 1
        return self.next_seq - 1


class MemoryChats:
    """One MySQL, shared by as many processes as are given it."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0
        """How often an answer has been looked for."""
        self.rows: dict[str, Row] = {}
        self.keys: dict[tuple[str, str], tuple[str | None, str]] = {}

    async def create(self, chat: Chat, idempotency_key: str | None, digest: str | None) -> Chat:
        self._trip()
        if idempotency_key is not None:
            stored_digest, chat_id = self.keys.setdefault((chat.user_id, idempotency_key), (digest, chat.id))
            if stored_digest != digest:
                raise IdempotencyConflict("This idempotency key came before with other content.")
            if chat_id in self.rows:
                return self.rows[chat_id].chat
        self.rows[chat.id] = Row(chat, has_own_title=chat.title is not None)
        return chat

    async def find_by_key(self, user_id: str, idempotency_key: str) -> str | None:
        self._trip()
        return self.keys.get((user_id, idempotency_key), (None, None))[1]

    async def require(self, chat_id: str, user_id: str) -> None:
        self._trip()
        self._owned(chat_id, user_id)

    async def open_answer(self, opening: NewAnswer, history_bytes: int) -> Started | AlreadyAnswered | SessionBusy:
        self._trip()
        who = opening.identity
        row = self._owned(who.chat_id, opening.user_id)
        if opening.is_regeneration:
            return self._open_again(row, opening, history_bytes)
        if opening.parent_id and (parent := row.answer(opening.parent_id)).is_active:
            return SessionBusy(parent)
        is_first = who.user_message_id not in row.questions
        if (kept := self._kept(row, opening)) is not None:
            return AlreadyAnswered(kept)
        if (active := row.active(who.session_id)) is not None:
            return SessionBusy(active)
        if is_first:
            row.parents[who.user_message_id] = row.leaf() if opening.parent_id is None else opening.parent_id
            row.questions[who.user_message_id] = (row.take(), opening.content)
        elif row.is_followed(who.user_message_id):
            row.asides.add(who.message_id)
        row.answers[who.message_id] = (row.take(), _new(opening))
        row.chat = replace(row.chat, title=_titled(row.chat, opening))
        history = self._history(row, who.user_message_id, history_bytes)
        started = Started(row.chat.system_prompt, history, is_first, opening.content)
        wants_title = row.questions[who.user_message_id][0] == 1 and not row.has_own_title
        return replace(started, window_from=row.window_from, wants_title=wants_title)

    def _kept(self, row: Row, opening: NewAnswer) -> StoredAnswer | None:
        """The answer that a message has that came before, unless it may be tried again."""
        who = opening.identity
        if who.user_message_id not in row.questions and who.user_message_id not in row.answers:
            return None
        if row.questions.get(who.user_message_id, (0, None))[1] != opening.content:
            raise IdempotencyConflict("This userMessageId came before with other content.")
        if opening.parent_id not in (None, row.parents[who.user_message_id]):
            raise IdempotencyConflict("This userMessageId came before with another parentMessageId.")
        answer = row.newest_to(who.user_message_id)
        return None if answer is None or answer.status.retryable else answer

    def _open_again(self, row: Row, opening: NewAnswer, history_bytes: int) -> Started | AlreadyAnswered | SessionBusy:
        who = opening.identity
        if who.user_message_id not in row.questions:
            raise MessageNotFound
        if who.message_id in row.answers:
            return AlreadyAnswered(row.answers[who.message_id][1])
        answers = [answer for _, answer in row.answers.values() if answer.is_active]
        for answer in answers:
            if answer.identity.user_message_id == who.user_message_id:
                return SessionBusy(answer)
        if (active := row.active(who.session_id)) is not None:
            return SessionBusy(active)
        row.answers[who.message_id] = (row.take(), _new(opening))
        history = self._history(row, who.user_message_id, history_bytes)
        started = Started(row.chat.system_prompt, history, False, row.questions[who.user_message_id][1])
        return replace(started, window_from=row.window_from)

    async def find_answer(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        self._trip()
        self.asked += 1
        row = self.rows.get(chat_id)
        return row.answers.get(message_id, (0, None))[1] if row else None

    async def find_answer_to(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        self._trip()
        row = self.rows.get(chat_id)
        return row.newest_to(user_message_id) if row else None

    async def find_sent(self, chat_id: str, user_id: str, user_message_id: str, content: str) -> StoredAnswer | None:
        self._trip()
        row = self._owned(chat_id, user_id)
        if user_message_id in row.answers or row.questions.get(user_message_id, (0, content))[1] != content:
            raise IdempotencyConflict("This userMessageId came before with other content.")
        return row.newest_to(user_message_id)

    async def find_active(self, chat_id: str, session_id: str | None) -> StoredAnswer | None:
        self._trip()
        row = self.rows.get(chat_id)
        return row.active(session_id) if row else None

    async def checkpoint(
        self, answer: Answer, owner_token: str, seen_at: datetime, max_characters: int | None = None
    ) -> bool:
        self._trip()
        who = answer.identity
        return self._change(
            who.chat_id,
            who.message_id,
            owner_token,
            None,
            text=answer.text[:max_characters],
            reasoning=answer.reasoning if max_characters is None else "",
            owner_seen_at=seen_at,
        )

    async def finish(
        self, chat_id: str, message_id: str, owner_token: str, final: FinalAnswer, if_seen_at: datetime | None = None
    ) -> bool:
        self._trip()
        return self._change(
            chat_id,
            message_id,
            owner_token,
            if_seen_at,
            status=final.outcome.status,
            text=final.text,
            reasoning=final.reasoning,
            sources=tuple(final.sources),
            finish_reason=final.outcome.finish_reason,
            error_code=final.outcome.error_code,
            usage=final.usage,
            finished_at=final.finished_at,
            is_truncated=final.is_truncated,
        )

    async def make_searchable(self, chat_id: str, message_id: str) -> None:
        self._trip()

    async def keep_window(self, chat_id: str, first_id: str | None) -> None:
        self._trip()
        if chat_id in self.rows:
            self.rows[chat_id].window_from = first_id

    async def set_title(self, chat_id: str, title: str) -> bool:
        self._trip()
        row = self.rows.get(chat_id)
        if row is None or row.has_own_title:
            return False
        row.chat = replace(row.chat, title=title)
        return True

    async def ping(self) -> None:
        self._trip()

    async def close(self) -> None:
        pass

    def _trip(self) -> None:
        if self.is_away:
            raise StorageUnavailable

    def _owned(self, chat_id: str, user_id: str) -> Row:
        row = self.rows.get(chat_id)
        if row is None or row.chat.user_id != user_id:
            raise ChatNotFound
        return row

    def _history(self, row: Row, user_message_id: str, history_bytes: int) -> list[QuestionAnswer]:
        found: list[QuestionAnswer] = []
        answer_id = row.parents[user_message_id]
        while answer_id and sum(len((one.question + one.answer).encode()) for one in found) < history_bytes:
            answer = row.answers[answer_id][1]
            question_id = answer.identity.user_message_id
            asides = [
                row.answers[aside]
                for aside in row.asides
                if row.answers[aside][1].identity.user_message_id == question_id
                and row.answers[aside][1].text
                and not row.answers[aside][1].is_active
            ]
            newer = row.newest(asides)
            said = newer.text if newer else answer.text
            is_refused = not said and answer.error_code == FailureCode.AI_REJECTED
            if not answer.is_active and not is_refused:
                found.insert(0, QuestionAnswer(row.questions[question_id][1], said, question_id))
            answer_id = row.parents[question_id]
        return found

    def _change(
        self, chat_id: str, message_id: str, owner_token: str, if_seen_at: datetime | None, **values: object
    ) -> bool:
        row = self.rows.get(chat_id)
        if row is None or message_id not in row.answers:
            return False
        seq, answer = row.answers[message_id]
        if not answer.is_active or answer.owner_token != owner_token or if_seen_at not in (None, answer.owner_seen_at):
            return False
        row.answers[message_id] = (seq, replace(answer, **values))
        return True


def _new(opening: NewAnswer) -> StoredAnswer:
    return StoredAnswer(
        identity=opening.identity,
        status=Status.STREAMING,
        text="",
        reasoning="",
        sources=(),
        finish_reason=None,
        error_code=None,
        usage=None,
        owner_token=opening.owner_token,
        owner_seen_at=opening.now,
        deadline_at=opening.deadline_at,
        created_at=opening.now,
        finished_at=None,
    )


def _titled(chat: Chat, opening: NewAnswer) -> str | None:
    return title_from(opening.content) if chat.title is None else chat.title
