"""`Chats` in memory: what MySQL does for the use cases, in the simplest way."""

import asyncio
from dataclasses import replace
from datetime import datetime

from chat.answer import Answer
from chat.errors import ChatNotFound, IdempotencyConflict
from chat.model import (
    Busy,
    Chat,
    Exchange,
    FinalRecord,
    Opened,
    Opening,
    Repeated,
    Status,
    StoredAnswer,
)


class MemoryChats:
    """Every method does its work between two awaits, as a transaction would."""

    def __init__(self) -> None:
        self.chats: dict[str, Chat] = {}
        self.keys: dict[tuple[str, str], tuple[str, str | None]] = {}
        self.questions: dict[tuple[str, str], str] = {}
        self.answers: dict[tuple[str, str], StoredAnswer] = {}

    async def create(self, chat: Chat, idempotency_key: str | None, digest: str | None) -> Chat:
        await asyncio.sleep(0)
        if idempotency_key is not None:
            known, known_digest = self.keys.setdefault((chat.user_id, idempotency_key), (chat.id, digest))
            if known_digest != digest:
                raise IdempotencyConflict("The key came before with other content.")
            chat = self.chats.get(known, chat)
        self.chats[chat.id] = chat
        return chat

    async def require(self, chat_id: str, user_id: str) -> None:
        await asyncio.sleep(0)
        if chat_id not in self.chats or self.chats[chat_id].user_id != user_id:
            raise ChatNotFound

    async def open_answer(self, opening: Opening, history_bytes: int) -> Opened | Repeated | Busy:
        await self.require(opening.identity.chat_id, opening.user_id)
        who = opening.identity
        message = (who.chat_id, who.user_message_id)
        is_first = message not in self.questions
        earlier = self._exchanges(who.chat_id, who.user_message_id, history_bytes)
        if not is_first:
            if self.questions[message] != opening.content:
                raise IdempotencyConflict("The message came before with other content.")
            newest = self._newest(who.chat_id, who.user_message_id)
            if newest is not None and not newest.status.retryable:
                return Repeated(newest)
        for answer in self._of(who.chat_id):
            if answer.is_active and answer.identity.session_id == who.session_id:
                return Busy(answer)
        self.questions.setdefault(message, opening.content)
        self.answers[who.chat_id, who.message_id] = _row(opening)
        chat = self.chats[who.chat_id]
        self.chats[who.chat_id] = replace(chat, title=chat.title or opening.content[:60])
        return Opened(chat.system_prompt, earlier, is_first)

    async def find_answer(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        await asyncio.sleep(0)
        return self.answers.get((chat_id, message_id))

    async def find_answer_to(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        await asyncio.sleep(0)
        return self._newest(chat_id, user_message_id)

    async def find_active(self, chat_id: str, session_id: str | None) -> StoredAnswer | None:
        await asyncio.sleep(0)
        active = [answer for answer in self._of(chat_id) if answer.is_active]
        return next((a for a in reversed(active) if session_id in (None, a.identity.session_id)), None)

    async def checkpoint(self, answer: Answer, owner_token: str, seen_at: datetime) -> bool:
        await asyncio.sleep(0)
        row = self.answers[answer.identity.chat_id, answer.identity.message_id]
        if not row.is_active or row.owner_token != owner_token:
            return False
        changed = replace(row, text=answer.text, reasoning=answer.reasoning, owner_seen_at=seen_at)
        self.answers[row.identity.chat_id, row.identity.message_id] = changed
        return True

    async def finish(
        self,
        chat_id: str,
        message_id: str,
        owner_token: str,
        final: FinalRecord,
        if_seen_at: datetime | None = None,
    ) -> bool:
        await asyncio.sleep(0)
        row = self.answers.get((chat_id, message_id))
        if row is None or not row.is_active or row.owner_token != owner_token:
            return False
        if if_seen_at not in (None, row.owner_seen_at):
            return False
        self.answers[chat_id, message_id] = replace(
            row,
            status=final.ending.status,
            finish_reason=final.ending.finish_reason,
            error_code=final.ending.error_code,
            text=final.text,
            reasoning=final.reasoning,
            sources=final.sources,
            usage=final.usage,
            finished_at=final.finished_at,
        )
        return True

    async def ping(self) -> None:
        await asyncio.sleep(0)

    def _of(self, chat_id: str) -> list[StoredAnswer]:
        return [answer for (chat, _), answer in self.answers.items() if chat == chat_id]

    def _newest(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        answers = [a for a in self._of(chat_id) if a.identity.user_message_id == user_message_id]
        return answers[-1] if answers else None

    def _exchanges(self, chat_id: str, before: str, history_bytes: int) -> list[Exchange]:
        found: list[Exchange] = []
        for (chat, message), question in self.questions.items():
            if chat != chat_id:
                continue
            if message == before:
                break
            ended = [a for a in self._of(chat) if a.identity.user_message_id == message and a.text and not a.is_active]
            if ended:
                found.append(Exchange(question, ended[-1].text))
        return found


def _row(opening: Opening) -> StoredAnswer:
    return StoredAnswer(
        opening.identity,
        Status.STREAMING,
        text="",
        reasoning="",
        sources=[],
        finish_reason=None,
        error_code=None,
        usage=None,
        owner_token=opening.owner_token,
        owner_seen_at=opening.now,
        deadline_at=opening.deadline_at,
        created_at=opening.now,
        finished_at=None,
    )
