"""What can go wrong before the first byte of an answer, as one tree, and the failures of an answer as one table.

ChatError                    anything we tell a client about
├── InvalidRequest           400  a header, an id or a body is missing or malformed
├── Unauthenticated          401  no credentials, or bad ones
├── Forbidden                403  credentials and X-User-Id disagree
├── ChatNotFound             404  unknown, or someone else's: the two look the same
├── NotFound                 404  no such route
├── MethodNotAllowed         405
├── PayloadTooLarge          413
├── UnsupportedMediaType     415
├── InvalidContent           422  the message's text cannot be accepted
├── StreamInProgress         409  this session already has an active answer in this chat
├── IdempotencyConflict      409  the same key, other content
├── RateLimited              429  one of our limits
└── StorageUnavailable       503  MySQL (or, on cancel, Redis) cannot be reached
AnswerFailed                 not a response: ends an answer that has begun, with a `FailureCode`

Messages are shown to clients: no secrets, no texts of users, no words of another service.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class ChatError(Exception):
    """Base of the errors that become a problem document (RFC 9457); `code` and `status` are stable."""

    code = "internal_error"
    status = 500
    title = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to this error."""
        return {}

    @property
    def extras(self) -> dict[str, object]:
        """Further members of the problem document."""
        return {}


class InvalidRequest(ChatError):
    """A header, an id or a body is missing or malformed; the detail says which and why."""

    code, status, title = "invalid_request", 400, "Invalid request"


class Unauthenticated(ChatError):
    """The caller did not prove who they are."""

    code, status, title = "unauthenticated", 401, "Authentication required"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="chat"'}


class Forbidden(ChatError):
    """The caller proved to be someone else than they say."""

    code, status, title = "forbidden", 403, "Forbidden"


class ChatNotFound(ChatError):
    """The chat does not exist for this user."""

    code, status, title = "chat_not_found", 404, "Chat not found"

    def __init__(self) -> None:
        super().__init__("There is no such chat for this user.")


class NotFound(ChatError):
    """The path is no route of this function."""

    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(ChatError):
    """The route exists, the method does not."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This route answers {allowed}.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class PayloadTooLarge(ChatError):
    """The body is over the limit."""

    code, status, title = "payload_too_large", 413, "Payload too large"


class UnsupportedMediaType(ChatError):
    """The body is declared as something that is not JSON text."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class InvalidContent(ChatError):
    """The message's text is empty, too long or not valid Unicode."""

    code, status, title = "invalid_content", 422, "Invalid content"


class StreamInProgress(ChatError):
    """This session already has an active answer in this chat."""

    code, status, title = "stream_in_progress", 409, "An answer is being generated"

    def __init__(self, active_message_id: str) -> None:
        super().__init__("This session already has an active answer in this chat: wait for it, or cancel it.")
        self.active_message_id = active_message_id

    @property
    def extras(self) -> dict[str, object]:
        return {"activeMessageId": self.active_message_id}


class IdempotencyConflict(ChatError):
    """The same idempotency key came before with other content."""

    code, status, title = "idempotency_conflict", 409, "Idempotency conflict"


class RateLimited(ChatError):
    """One of this service's limits is reached."""

    code, status, title = "rate_limited", 429, "Too many requests"

    def __init__(self, detail: str, retry_after_seconds: int, limit: str = "other") -> None:
        super().__init__(detail)
        self.limit = limit
        """Which limit, as one word for operators."""
        self.retry_after_seconds = max(1, retry_after_seconds)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_seconds)}


class StorageUnavailable(ChatError):
    """A store that this request cannot do without did not answer."""

    code, status, title = "storage_unavailable", 503, "Storage unavailable"

    def __init__(self, detail: str = "A data store is not reachable at the moment. Try again shortly.") -> None:
        super().__init__(detail)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


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
    FailureCode.AI_TIMEOUT: Failure("The AI service fell silent.", True),
    FailureCode.AI_INCOMPLETE: Failure("The answer was cut off.", True),
    FailureCode.AI_INVALID: Failure("The AI service sent nothing that could be understood.", True),
    FailureCode.AI_ERROR: Failure("The AI service reported an error.", True),
    FailureCode.DEADLINE: Failure("The time for this answer was used up.", True),
    FailureCode.INTERRUPTED: Failure("The answer was interrupted.", True),
    FailureCode.INTERNAL_ERROR: Failure("Something went wrong on our side.", True),
}


class AnswerFailed(Exception):
    """Ends a running answer as `failed`, raised by the AI adapter.

    `detail` is for the log only; like every message here it holds no text of a user or of the AI.
    """

    def __init__(self, code: FailureCode, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail
