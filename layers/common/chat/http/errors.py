"""What can be wrong with a request, before any use case sees it.

RequestError
├── InvalidRequest         a header, an id or a body is missing or malformed
├── Unauthenticated        no credentials, or bad ones
├── Forbidden              credentials and X-User-Id disagree
├── NotFound               no such route
├── MethodNotAllowed
├── PayloadTooLarge
└── UnsupportedMediaType
"""

from __future__ import annotations

from chat.domain.errors import ChatError


class RequestError(ChatError):
    """Base of the errors that only a request can have."""


class InvalidRequest(RequestError):
    """A header, an id or a body is missing or malformed; the detail says which and why."""

    code = "invalid_request"


class Unauthenticated(RequestError):
    """The caller did not prove who they are."""

    code = "unauthenticated"
    challenge = 'Bearer realm="chat"'
    """The value of `WWW-Authenticate`. Source: RFC 6750, section 3."""


class Forbidden(RequestError):
    """The caller proved to be someone else than they say."""

    code = "forbidden"


class NotFound(RequestError):
    """The path is no route of this function."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This route answers {allowed}.")
        self.allowed = allowed


class PayloadTooLarge(RequestError):
    """The body is over the limit."""

    code = "payload_too_large"


class UnsupportedMediaType(RequestError):
    """The body is declared as something that is not JSON text."""

    code = "unsupported_media_type"
