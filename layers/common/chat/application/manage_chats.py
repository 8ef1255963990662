"""Chats as their user looks through them: list, read, change, delete, and what they think of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chat.application.cancel_answer import CancelAnswer
from chat.application.ports import AnswerTelemetry, ChatChange, ChatLibrary, ChatTraces, MessageView
from chat.application.recover_orphans import OrphanRecovery
from chat.application.telemetry_events import FeedbackGiven
from chat.domain.errors import ChatNotFound, StorageUnavailable
from chat.domain.listing import (
    MAX_PAGE_BYTES,
    ChatDetails,
    ChatSummary,
    Feedback,
    Place,
    StoredMessage,
    chats_cursor,
    messages_cursor,
    read_chats_cursor,
    read_messages_cursor,
)
from chat.domain.model import Status, StoredAnswer

RELEASE_SECONDS, RELEASE_LOOKS = 0.05, 20
"""How often, and how many times, it is looked whether the owner of an ended answer has let go of it."""
MAX_ERASED_AT_ONCE = 20
"""How many chats one request erases at most."""
ERASE_SECONDS = 8.0
"""How long one request goes on to erase further chats."""


@dataclass(frozen=True, slots=True)
class ManageChats:
    """One for each process."""

    library: ChatLibrary
    traces: ChatTraces
    cancel: CancelAnswer
    recover: OrphanRecovery
    telemetry: AnswerTelemetry
    now: Callable[[], datetime]

    async def list_chats(
        self, user_id: str, cursor: str | None, limit: int, query: str | None
    ) -> tuple[list[ChatSummary], str | None]:
        """Return a page of the user's chats, newest activity first, and the cursor of the next one.

        Raises:
            InvalidCursor: it was not given for this list.
            StorageUnavailable: MySQL is away.
        """
        after = None if cursor is None else read_chats_cursor(cursor, user_id, query)
        found = await self.library.list_chats(user_id, after, limit + 1, (query or "").split())
        page = found[:limit]
        if len(found) <= limit:
            return page, None
        return page, chats_cursor(Place(page[-1].updated_at, page[-1].id), user_id, query)

    async def read_chat(self, chat_id: str, user_id: str) -> ChatDetails:
        """Return a chat.

        Raises:
            ChatNotFound: unknown, or someone else's.
            StorageUnavailable: MySQL is away.
        """
        return await self.library.read_chat(chat_id, user_id)

    async def list_messages(
        self, chat_id: str, user_id: str, view: MessageView, cursor: str | None, limit: int
    ) -> tuple[list[StoredMessage], str | None]:
        """Return the newest page of a view of a chat, or the one before a cursor, and the cursor of the next one.

        Answers whose owner is dead have ended by then.

        Raises:
            ChatNotFound, MessageNotFound: unknown, or someone else's.
            InvalidCursor: it was not given for this view.
            StorageUnavailable: MySQL is away.
        """
        before = None if cursor is None else read_messages_cursor(cursor, user_id, chat_id, view.name)
        chat = await self.library.read_chat(chat_id, user_id)
        ended = await self._ended_elsewhere(chat_id) if chat.active_message_ids else {}
        found, rest = await self.library.list_messages(chat_id, view, before, limit, MAX_PAGE_BYTES)
        if ended:
            found = [_as_ended(message, ended.get(message.id)) for message in found]
        return found, None if rest is None else messages_cursor(rest, user_id, chat_id, view.name)

    async def _ended_elsewhere(self, chat_id: str) -> dict[str, StoredAnswer]:
        """End what dead owners left; return the answers whose ends only Redis knows, because MySQL takes none."""
        ended = {}
        for running in await self.library.running_answers(chat_id):
            try:
                answer = await self.recover(running)
            except StorageUnavailable:
                continue  # MySQL can be read, and says how far the answer is
            if not answer.is_saved:
                ended[answer.identity.message_id] = answer
        return ended

    async def change_chat(
        self, chat_id: str, user_id: str, change: ChatChange, is_expected: Callable[[ChatDetails], bool]
    ) -> ChatDetails:
        """Change a chat and return it; it takes effect from the next message on.

        Raises:
            ChatNotFound: unknown, or someone else's.
            ChatChanged: it is not as expected.
            StorageUnavailable: MySQL is away.
        """
        return await self.library.change_chat(chat_id, user_id, change, is_expected)

    async def delete_chat(self, chat_id: str, user_id: str) -> None:
        """Delete a chat with all that MySQL and Redis have of it; what runs in it is cancelled first.

        It is hidden at once, then nothing can begin in it. A delete that broke off after that is completed by the next
        one, or by the retention's.

        Raises:
            ChatNotFound: unknown, or someone else's.
            StorageUnavailable: a store is away; where Redis was away from the beginning nothing has changed.
        """
        await self.traces.ping()
        await self.library.mark_deleted(chat_id, user_id, self.now())
        running = await self.library.running_answers(chat_id)
        await asyncio.gather(*map(self._stop, running))
        while (part := await self.library.next_part(chat_id)).message_ids:
            await self.traces.forget_messages(chat_id, part)  # first: afterwards nobody knows their names
            await self.library.delete_part(chat_id, part)
        await self.traces.forget_chat(chat_id)
        await self.library.delete_rest(chat_id)

    async def _stop(self, answer: StoredAnswer) -> None:
        """Cancel an answer as the cancel route does, and let its owner write its last: after that it writes no more."""
        await self.cancel.stop(answer, answer.identity.session_id)
        identity = answer.identity
        for _ in range(RELEASE_LOOKS):
            owner = await self.traces.owner_status(identity.chat_id, identity.message_id)
            if owner is None or not owner.is_alive:
                return
            await asyncio.sleep(RELEASE_SECONDS)

    async def delete_chats(self, user_id: str) -> tuple[int, int]:
        """Delete some of the user's chats, and with the last one the limits; return how many, and how many are left.

        Raises:
            StorageUnavailable: a store is away; what was deleted stays so.
        """
        ends_at = asyncio.get_running_loop().time() + ERASE_SECONDS
        deleted = 0
        for chat_id in await self.library.chat_ids(user_id, MAX_ERASED_AT_ONCE):
            try:
                await self.delete_chat(chat_id, user_id)
            except ChatNotFound:
                continue  # another request was quicker
            deleted += 1
            if asyncio.get_running_loop().time() > ends_at:
                break
        remaining = await self.library.count_chats(user_id)
        if not remaining:
            await self.traces.forget_user(user_id)
        return deleted, remaining

    async def delete_expired(self, days: int, limit: int) -> int:
        """Delete some chats without activity for so many days (0: none), and those half deleted; return how many.

        Raises:
            StorageUnavailable: a store is away.
        """
        before = self.now() - timedelta(days=days) if days else None
        expired: Sequence[tuple[str, str]] = await self.library.expired_chats(before, limit)
        deleted = 0
        for chat_id, user_id in expired:
            try:
                await self.delete_chat(chat_id, user_id)
            except ChatNotFound:
                continue
            deleted += 1
        return deleted

    async def put_feedback(self, chat_id: str, user_id: str, message_id: str, feedback: Feedback) -> None:
        """Store what the user thinks of an answer.

        Raises:
            ChatNotFound, MessageNotFound: unknown, or someone else's.
            StorageUnavailable: MySQL is away.
        """
        await self.library.read_chat(chat_id, user_id)
        await self.library.put_feedback(chat_id, message_id, feedback, self.now())
        self.telemetry.record(FeedbackGiven(chat_id, message_id, user_id, feedback.rating))

    async def delete_feedback(self, chat_id: str, user_id: str, message_id: str) -> None:
        """Take it back.

        Raises:
            ChatNotFound, MessageNotFound: unknown, or someone else's.
            StorageUnavailable: MySQL is away.
        """
        await self.library.read_chat(chat_id, user_id)
        await self.library.delete_feedback(chat_id, message_id)


def _as_ended(message: StoredMessage, answer: StoredAnswer | None) -> StoredMessage:
    """Return a message as its answer has ended, where that is known."""
    if answer is None or message.status is not Status.STREAMING:
        return message
    return replace(
        message,
        status=answer.status,
        content=answer.text,
        reasoning=answer.reasoning,
        sources=answer.sources,
        finish_reason=answer.finish_reason,
        error_code=answer.error_code,
        truncated=answer.is_truncated,
        usage=answer.usage,
        finished_at=answer.finished_at,
    )
