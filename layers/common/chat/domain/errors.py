"""What can go wrong with a chat or an answer, and the failures of an answer as one table. Knows nothing of HTTP.

ChatError                anything a client is told about; `chat.http.problems` maps it to a response
├── ChatNotFound         unknown, or someone else's: the two look the same
├── ChatChanged          it is no longer as the client knew it
├── MessageNotFound      no such message in this chat
├── InvalidContent       the message's text cannot be accepted
├── UnsupportedContent   the message holds something else than text
├── StreamInProgress     this session already has an active answer in this chat
├── IdempotencyConflict  the same key, other content
├── RateLimited          a limit of this service is reached
└── StorageUnavailable   MySQL (or, on cancel, Redis) cannot be reached, or cannot write
    └── StorageRefused   MySQL answered that it will never take this
AnswerFailed             not a response: ends an answer that has begun, with a `FailureCode`

Messages are shown to clients: no secrets, no message text, no words of another service.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class ChatError(Exception):
    """Base of the errors that a client is told about; `code` is stable."""

    code = "internal_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ChatNotFound(ChatError):
    """The chat does not exist for this user."""

    code = "chat_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such chat for this user.")


class ChatChanged(ChatError):
    """The chat is no longer as the client knew it."""

    code = "precondition_failed"

    def __init__(self) -> None:
        super().__init__("The chat has changed since it was read: read it again.")


class MessageNotFound(ChatError):
    """The chat has no such message."""

    code = "message_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such message in this chat.")


class InvalidContent(ChatError):
    """The message's text is empty, too long or not valid Unicode."""

    code = "invalid_content"


class UnsupportedContent(ChatError):
    """The message holds something else than text, such as a file."""

    code = "unsupported_content"


class StreamInProgress(ChatError):
    """This session already has an active answer in this chat."""

    code = "stream_in_progress"

    def __init__(self, active_message_id: str) -> None:
        super().__init__("This session already has an active answer in this chat: wait for it, or cancel it.")
        self.active_message_id = active_message_id


class IdempotencyConflict(ChatError):
    """The same idempotency key came before with other content."""

    code = "idempotency_conflict"


ACTIVE = "active"
"""The limit on answers that are generated for one user at once."""
STREAMS = "streams"
"""The limit that also keeps a message from the answer that it already has: whoever reads that holds a place too."""


class RateLimited(ChatError):
    """One of this service's limits is reached."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after_seconds: int, limit: str = "other") -> None:
        super().__init__(detail)
        self.limit = limit
        """Which limit, as one word for operators."""
        self.retry_after_seconds = max(1, retry_after_seconds)


class StorageUnavailable(ChatError):
    """A store that this request cannot do without did not answer."""

    code = "storage_unavailable"

    def __init__(self, detail: str = "A data store is not reachable at the moment. Try again shortly.") -> None:
        super().__init__(detail)


class StorageRefused(StorageUnavailable):
    """The store answered, and will not take this however often it is asked: too large, out of range, a full table.

    Whoever can do without a store can do without it here too; whoever tries again must offer less.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__("A data store does not accept this request.")
        self.reason = reason
        """The store's code for it, for operators."""


class FailureCode(StrEnum):
    """Why an answer that had begun did not complete; the `code` of a `failure` event."""

    AI_UNAVAILABLE = "ai_unavailable"
    AI_REJECTED = "ai_rejected"
    AI_RATE_LIMITED = "ai_rate_limited"
    AI_TIMEOUT = "ai_timeout"
    AI_INCOMPLETE = "ai_incomplete"
    AI_INVALID = "ai_invalid"
    AI_ERROR = "ai_error"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    INTERNAL_ERROR = "internal_error"


class Failure(NamedTuple):
    """What a client is told of a failure: a sentence of ours, and whether sending the message again may help."""

    message: str
    retryable: bool


FAILURES: dict[FailureCode, Failure] = {
    FailureCode.AI_UNAVAILABLE: Failure("The AI service cannot be reached.", True),
    FailureCode.AI_REJECTED: Failure("The AI service did not accept the request.", False),
    FailureCode.AI_RATE_LIMITED: Failure("The AI service is over its limit. Try again later.", True),
    FailureCode.AI_TIMEOUT: Failure("The AI service stopped responding.", True),
    FailureCode.AI_INCOMPLETE: Failure("The answer was cut off.", True),
    FailureCode.AI_INVALID: Failure("The AI service returned an unreadable response.", True),
    FailureCode.AI_ERROR: Failure("The AI service reported an error.", True),
    FailureCode.DEADLINE: Failure("The time for this answer was used up.", True),
    FailureCode.INTERRUPTED: Failure("The answer was interrupted.", True),
    FailureCode.INTERNAL_ERROR: Failure("Something went wrong on our side.", True),
}


class AnswerFailed(Exception):
    """Ends a running answer as `failed`, raised by the AI adapter.

    `detail` is for the log only; like every message here it holds no text of a user or of the AI. `message` is what the
    client is told while it listens, where that can be more exact than the code's own sentence.
    """

    def __init__(self, code: FailureCode, detail: str = "", message: str | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
        self.message = message
