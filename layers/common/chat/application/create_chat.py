"""Create a chat."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chat.application.ports import AnswerTelemetry, Chats, RateLimiter
from chat.application.telemetry_events import LimitReached
from chat.domain.answer import to_json
from chat.domain.errors import RateLimited
from chat.domain.model import Chat, new_id
from chat.domain.title import clean_title


@dataclass(frozen=True, slots=True)
class CreateChat:
    """Stores a new chat; the same idempotency key of the same user gives the same one again."""

    chats: Chats
    rate_limiter: RateLimiter
    telemetry: AnswerTelemetry
    now: Callable[[], datetime]

    async def __call__(
        self, user_id: str, title: str | None, system_prompt: str | None, idempotency_key: str | None
    ) -> Chat:
        """Return the chat.

        Raises:
            RateLimited: too many chats within a minute; those of one key count once.
            IdempotencyConflict: the key came before with another title or system prompt.
            StorageUnavailable: MySQL is away.
        """
        name = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else secrets.token_hex(16)
        try:
            await self.rate_limiter.count_chat(user_id, name)
        except RateLimited as error:
            self.telemetry.record(LimitReached(None, user_id, None, error.limit))
            raise
        title = clean_title(title)
        chat = Chat(new_id(), user_id, title, system_prompt, self.now())
        digest = hashlib.sha256(to_json([title, system_prompt]).encode()).hexdigest()
        return await self.chats.create(chat, idempotency_key, digest if idempotency_key else None)
