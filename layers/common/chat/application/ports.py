"""What the use cases need from the outside, as protocols; each has a fake in the tests and a real adapter.

All methods are coroutine-safe and may be called by many answers at once in one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from chat.application.telemetry_events import TelemetryEvent
from chat.domain.answer import Answer
from chat.domain.events import Event
from chat.domain.listing import ChatDetails, ChatSummary, Feedback, Place, StoredMessage
from chat.domain.model import (
    AlreadyAnswered,
    Chat,
    ChatMessage,
    FinalAnswer,
    NewAnswer,
    SessionBusy,
    Source,
    Started,
    StoredAnswer,
    Usage,
)


class Chats(Protocol):
    """The truth: chats and messages.

    Every method raises `StorageUnavailable` when the store does not answer, or cannot write at the moment, and
    `StorageRefused` when it will never take what it was given.
    """

    async def create(self, chat: Chat, idempotency_key: str | None, digest: str | None) -> Chat:
        """Store `chat`, or return the one that this user stored under the same key.

        Raises:
            IdempotencyConflict: the key came before with another `digest` (of the request's content).
        """
        ...

    async def find_by_key(self, user_id: str, idempotency_key: str) -> str | None:
        """Return the id of the chat that this user made under this key."""
        ...

    async def require(self, chat_id: str, user_id: str) -> None:
        """Return if the chat exists and is this user's.

        Raises:
            ChatNotFound: it is not.
        """
        ...

    async def open_answer(self, opening: NewAnswer, history_bytes: int) -> Started | AlreadyAnswered | SessionBusy:
        """In one transaction: check the owner, take sequence numbers, store both messages, read the history.

        The user message is stored if its id is new in the chat; if it is not, the newest answer to it decides: one that
        may be retried leads to a new answer, any other is returned. A first message gives an untitled chat its title.
        The history holds the newest exchanges before the message whose answer has text, until they come to
        `history_bytes` of UTF-8.

        Raises:
            ChatNotFound: unknown, or someone else's.
            IdempotencyConflict: the user message id came before with other content.
        """
        ...

    async def find_answer(self, chat_id: str, message_id: str) -> StoredAnswer | None:
        """Return the answer with this id."""
        ...

    async def find_answer_to(self, chat_id: str, user_message_id: str) -> StoredAnswer | None:
        """Return the newest answer to this user message."""
        ...

    async def find_sent(self, chat_id: str, user_id: str, user_message_id: str, content: str) -> StoredAnswer | None:
        """Return the newest answer to a message that came before; None when it did not.

        Raises:
            ChatNotFound: unknown, or someone else's.
            IdempotencyConflict: the user message id came before with other content.
        """
        ...

    async def find_active(self, chat_id: str, session_id: str | None) -> StoredAnswer | None:
        """Return the active answer of this session, or with None the newest active one of the chat."""
        ...

    async def checkpoint(
        self, answer: Answer, owner_token: str, seen_at: datetime, max_characters: int | None = None
    ) -> bool:
        """Write the partial text and the owner's sign of life; False when the answer is no longer this owner's.

        With `max_characters` only the beginning of the text, and no reasoning.
        """
        ...

    async def finish(
        self, chat_id: str, message_id: str, owner_token: str, final: FinalAnswer, if_seen_at: datetime | None = None
    ) -> bool:
        """Move the answer from `streaming` to its end, in one transaction; False when it was not there to be moved.

        With `if_seen_at` (the reaper) only if the owner's last sign of life is still that one.
        """
        ...

    async def make_searchable(self, chat_id: str, message_id: str) -> None:
        """Let the search find an answer that has ended, and its message; may be repeated."""
        ...

    async def keep_window(self, chat_id: str, first_id: str | None) -> None:
        """Keep the message with which the AI's view of a chat begins, None for its first one: `Started.window_from`."""
        ...

    async def set_title(self, chat_id: str, title: str) -> bool:
        """Replace a chat's title by one of the AI; False when a person has given it one, or it is deleted."""
        ...

    async def ping(self) -> None:
        """Make one round trip."""
        ...


class LogPage(NamedTuple):
    """A stretch of an answer's event log."""

    events: Sequence[Event]
    ended: bool
    """The log holds the answer's last event and this page reaches it."""


class EventLog(Protocol):
    """Every event of an answer, kept for a while so that clients can resume. May be lost without losing an answer."""

    async def read(self, chat_id: str, message_id: str, after: int) -> LogPage | None:
        """Return the events after number `after`; None when there is no log, or it has a hole there.

        An empty page means that nothing new has been logged.

        Raises:
            StorageUnavailable: Redis is down.
        """
        ...


class CancelSignals(Protocol):
    """How a cancel reaches the owner of an answer, in whichever process."""

    async def request_cancel(self, chat_id: str, message_id: str, by_session: str) -> None:
        """Set the cancel key, then publish.

        Raises:
            StorageUnavailable: Redis is down; the request may or may not have arrived.
        """
        ...

    async def put_pending_cancel(self, chat_id: str, user_message_id: str, by_session: str) -> None:
        """Leave a cancel for the answer to a message that has not arrived; it waits for a bounded time.

        Raises:
            StorageUnavailable: Redis is down.
        """
        ...

    async def delete_pending_cancel(self, chat_id: str, user_message_id: str) -> None:
        """Take such a cancel back; does nothing while Redis is down."""
        ...


class OwnerStatus(NamedTuple):
    """What Redis knows of an answer's owner."""

    is_alive: bool
    stashed_final: FinalAnswer | None
    """What the owner wanted to store at the end, when MySQL was down."""


class AnswerLease(Protocol):
    """Held by the owner of a running answer, who publishes it to Redis. No method raises when Redis is down."""

    async def register(self, look_for_pending_cancel: bool) -> bool:
        """Announce the answer, await the acknowledged subscription, then tell whether a cancel is already waiting.

        Must be called after the answer's row is stored; waits a bounded time.
        """
        ...

    async def release(self) -> None:
        """Append what is left of the log with the end, and take back lease, session and registration. Bounded."""
        ...

    async def discard(self) -> None:
        """Leave nothing of the answer in Redis, because its chat was deleted. Bounded."""
        ...

    async def stash_final(self, final: FinalAnswer) -> bool:
        """Keep the end of the answer for the next reader to store; False when Redis is down too."""
        ...

    async def close(self) -> None:
        """Stop watching and writing; afterwards nothing of this answer runs in the background."""
        ...


class Leases(Protocol):
    """Which answers are owned by a living process. Signals only: MySQL decides who owns an answer."""

    def claim(self, answer: Answer, owner_token: str, user_id: str, on_cancel: Callable[[], None]) -> AnswerLease:
        """Begin to watch for cancels of this answer; from `register` on its events are copied to the log."""
        ...

    async def owner_status(self, chat_id: str, message_id: str) -> OwnerStatus | None:
        """Return what is known of the owner; None when Redis is down and nothing is known."""
        ...

    async def delete_stashed_final(self, chat_id: str, message_id: str) -> None:
        """Drop a stashed end that has been stored; does nothing while Redis is down."""
        ...

    async def count_active(self) -> int | None:
        """Return how many answers gave a sign of life lately, in all processes; None when Redis is down."""
        ...

    async def ping(self) -> None:
        """Make one round trip.

        Raises:
            StorageUnavailable: Redis is down.
        """
        ...


class AdmissionRequest(NamedTuple):
    """One of perhaps several attempts to have a message answered; each acquires and releases for itself."""

    user_id: str
    message: str
    """Names the user's message, in all attempts alike."""
    name: str
    """Tells this attempt from the others; without a colon. Its open stream has the same name."""


class StreamRequest(NamedTuple):
    """A stream that a user wants to open without generating anything."""

    user_id: str
    name: str
    """Tells this stream from the user's others."""


class RateLimiter(Protocol):
    """Limits per user. With Redis down they let everything pass but streams, which each process then bounds itself."""

    async def acquire(self, attempt: AdmissionRequest, tokens: int) -> None:
        """Count the message, take a slot among the active answers and a place among the streams, reserve `tokens`.

        While another attempt at the same message has a slot, only the number of streams can refuse this one, and both
        count as one message. Repeating it changes nothing. What a process held that died becomes free by itself.

        Raises:
            RateLimited: a limit is reached; nothing was taken.
        """
        ...

    def reserve(self, attempt: AdmissionRequest, tokens: int) -> None:
        """Reserve so many `tokens` instead, soon; refused it cannot be. Does nothing once the attempt is released."""
        ...

    async def release(self, attempt: AdmissionRequest, tokens: int, has_started: bool) -> None:
        """Give the slot back and replace the reservation by the tokens really used; repeating it changes nothing.

        Unless it `has_started` an answer, it counts no longer among the messages of this minute. Its stream keeps its
        place.
        """
        ...

    async def count_chat(self, user_id: str, name: str) -> None:
        """Count a new chat of this minute; one of the same name counts once.

        Raises:
            RateLimited: there are too many.
        """
        ...

    async def count_pending_cancel(self, owner: str, name: str) -> None:
        """Count a cancel that is to wait for its message, among those of its owner; one of the same name counts once.

        Raises:
            RateLimited: too many are waiting.
        """
        ...

    async def open_stream(self, stream: StreamRequest) -> None:
        """Take a place among the user's open streams; repeating it changes nothing.

        Raises:
            RateLimited: there are too many; nothing was taken.
        """
        ...

    async def close_stream(self, stream: StreamRequest) -> None:
        """Give the place of a stream back, or of an attempt's; repeating it changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Some text of the answer; valid Unicode, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Some of the model's reasoning; valid Unicode, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class SourcesAdded:
    """Sources that were not named before in this answer."""

    sources: Sequence[Source]


@dataclass(frozen=True, slots=True)
class Finish:
    """The model says it is finished: `stop`, `length` or `content_filter`. Of several the last one counts."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many events of the AI held something that could be neither understood nor passed on; comes last."""

    events: int


StreamPart = TextDelta | ReasoningDelta | SourcesAdded | Finish | Usage | Dropped


class AI(Protocol):
    """Any OpenAI-compatible service."""

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the models that may be asked; the first is the default."""
        ...

    def answer(
        self, turns: Sequence[ChatMessage], max_tokens: int, model: str
    ) -> AsyncGenerator[Sequence[StreamPart], None]:
        """Ask one of the models once and yield what arrives, one batch for each read from the network.

        Returns normally only after a `Finish` was yielded. Closing the iterator, or cancelling the task in it, closes
        the connection at once.

        Raises:
            AnswerFailed: anything else.
        """
        ...


class AnswerTelemetry(Protocol):
    """Hears what happens in an answer's life, for logs and metrics."""

    def record(self, event: TelemetryEvent) -> None:
        """Take note of it. Never raises or waits, never sees a text."""
        ...


@dataclass(frozen=True, slots=True)
class ChatChange:
    """What a person changes of a chat; None leaves a member as it is, a tuple holds its new value."""

    title: tuple[str | None] | None = None
    system_prompt: tuple[str | None] | None = None
    model: tuple[str | None] | None = None


@dataclass(frozen=True, slots=True)
class MessageView:
    """Which messages of a chat are looked at: a branch by its last message, the active one, or the whole tree."""

    leaf_id: str | None = None
    is_whole_tree: bool = False

    @property
    def name(self) -> str:
        """By which cursors of one view are told from those of another."""
        return "all" if self.is_whole_tree else self.leaf_id or "active"


class ChatPart(NamedTuple):
    """Some messages of a chat, and in which sessions they were written: what Redis may have of them goes too."""

    message_ids: Sequence[str]
    session_ids: Sequence[str]


class ChatLibrary(Protocol):
    """Chats and messages as their user looks through them. Every method raises `StorageUnavailable`."""

    async def list_chats(
        self, user_id: str, after: Place | None, limit: int, words: Sequence[str] = ()
    ) -> list[ChatSummary]:
        """Return up to `limit` chats behind `after`, the one with the newest activity first.

        With `words` only those whose title or one of whose messages holds all of them.
        """
        ...

    async def read_chat(self, chat_id: str, user_id: str) -> ChatDetails:
        """Return a chat.

        Raises:
            ChatNotFound: unknown, or someone else's.
        """
        ...

    async def change_chat(
        self, chat_id: str, user_id: str, change: ChatChange, is_expected: Callable[[ChatDetails], bool]
    ) -> ChatDetails:
        """Change a chat in one transaction, if it is as it is expected to be, and return it.

        Raises:
            ChatNotFound: unknown, or someone else's.
            ChatChanged: it is not as expected; nothing was changed.
        """
        ...

    async def list_messages(
        self, chat_id: str, view: MessageView, before: tuple[int, str] | None, limit: int, max_bytes: int
    ) -> tuple[list[StoredMessage], tuple[int, str] | None]:
        """Return the newest messages of the view, oldest first, and where the page before them ends.

        `before` is such an end. Up to `limit` messages, or until their texts come to `max_bytes`; at least one.

        Raises:
            MessageNotFound: the view's leaf is no message of the chat.
        """
        ...

    async def running_answers(self, chat_id: str) -> list[StoredAnswer]:
        """Return the answers of a chat that have not ended."""
        ...

    async def chat_ids(self, user_id: str, limit: int) -> list[str]:
        """Return the ids of some of the user's chats."""
        ...

    async def count_chats(self, user_id: str) -> int:
        """Return how many chats the user has."""
        ...

    async def expired_chats(self, before: datetime | None, limit: int) -> list[tuple[str, str]]:
        """Return chat and user of some chats without activity since `before`, and of those half deleted."""
        ...

    async def mark_deleted(self, chat_id: str, user_id: str, now: datetime) -> None:
        """Let the chat be found no more; also by who would write into it.

        Raises:
            ChatNotFound: there is none, or it is someone else's.
        """
        ...

    async def next_part(self, chat_id: str) -> ChatPart:
        """Return a bounded part of a chat's messages; empty when there are none."""
        ...

    async def delete_part(self, chat_id: str, part: ChatPart) -> None:
        """Delete these messages, and what belongs to them, in one transaction."""
        ...

    async def delete_rest(self, chat_id: str) -> None:
        """Delete a chat without messages."""
        ...

    async def put_feedback(self, chat_id: str, message_id: str, feedback: Feedback, now: datetime) -> None:
        """Store what the user thinks of an answer, in the place of what was stored.

        Raises:
            MessageNotFound: the chat has no such answer.
        """
        ...

    async def delete_feedback(self, chat_id: str, message_id: str) -> None:
        """Take it back.

        Raises:
            MessageNotFound: the chat has no such answer.
        """
        ...


class ChatTraces(Protocol):
    """What Redis keeps of chats and users for a while."""

    async def ping(self) -> None:
        """Make one round trip. Raises StorageUnavailable."""
        ...

    async def owner_status(self, chat_id: str, message_id: str) -> OwnerStatus | None:
        """Return what is known of an answer's owner; None when Redis does not answer."""
        ...

    async def forget_messages(self, chat_id: str, part: ChatPart) -> None:
        """Delete every key of these messages and sessions. Raises StorageUnavailable."""
        ...

    async def forget_chat(self, chat_id: str) -> None:
        """Delete what waits in the chat for messages that have not come. Raises StorageUnavailable."""
        ...

    async def forget_user(self, user_id: str) -> None:
        """Delete the user's limits. Raises StorageUnavailable."""
        ...
