"""Turns errors into responses before the first byte: the only place that does. Knows nothing of routes or stores.

`exception_handlers` covers the errors that are expected, `UnknownErrors` all others; an application needs both.

Source: RFC 9457 (problem details).
"""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from chat.domain.errors import (
    ChatChanged,
    ChatError,
    ChatNotFound,
    IdempotencyConflict,
    InvalidContent,
    MessageNotFound,
    RateLimited,
    StorageRefused,
    StorageUnavailable,
    StreamInProgress,
    UnsupportedContent,
)
from chat.domain.model import new_id
from chat.http.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from chat.log_context import bind
from chat.safe_errors import describe

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:problem-type:chat:"
"""Begins every problem's `type`; its `code` follows.

A URN, because a relative reference would name another problem at each function's address, and nothing is served there.
"""

_REQUEST_ID = "chat.request_id"

logger = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """Return the id of this request: the platform's where there is one, else one of ours, the same at every call."""
    if _REQUEST_ID not in scope:
        context = scope.get("aws.context")
        scope[_REQUEST_ID] = str(getattr(context, "aws_request_id", None) or new_id())
    return str(scope[_REQUEST_ID])


class ProblemType(NamedTuple):
    """How a kind of error looks to a client."""

    status: int
    title: str


PROBLEM_TYPES: dict[type[ChatError], ProblemType] = {
    ChatError: ProblemType(500, "Internal error"),
    InvalidRequest: ProblemType(400, "Invalid request"),
    Unauthenticated: ProblemType(401, "Authentication required"),
    Forbidden: ProblemType(403, "Forbidden"),
    ChatNotFound: ProblemType(404, "Chat not found"),
    MessageNotFound: ProblemType(404, "Message not found"),
    NotFound: ProblemType(404, "Not found"),
    MethodNotAllowed: ProblemType(405, "Method not allowed"),
    ChatChanged: ProblemType(412, "Precondition failed"),
    PayloadTooLarge: ProblemType(413, "Payload too large"),
    UnsupportedMediaType: ProblemType(415, "Unsupported media type"),
    InvalidContent: ProblemType(422, "Invalid content"),
    UnsupportedContent: ProblemType(422, "Unsupported content"),
    StreamInProgress: ProblemType(409, "An answer is being generated"),
    IdempotencyConflict: ProblemType(409, "Idempotency conflict"),
    RateLimited: ProblemType(429, "Too many requests"),
    StorageUnavailable: ProblemType(503, "Storage unavailable"),
}
"""Every error that becomes a response. A kind that is not listed looks like the one that it derives from."""


def problem_type(kind: type[ChatError]) -> ProblemType:
    """Return how errors of this kind look."""
    return next(PROBLEM_TYPES[one] for one in kind.__mro__ if one in PROBLEM_TYPES)


def problem_headers(error: ChatError) -> dict[str, str]:
    """Return the response headers that belong to an error."""
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": error.challenge}
        case MethodNotAllowed():
            return {"Allow": error.allowed}
        case RateLimited():
            return {"Retry-After": str(error.retry_after_seconds)}
        case StorageRefused():
            return {}
        case StorageUnavailable():
            return {"Retry-After": "1"}
    return {}


def problem_members(error: ChatError) -> dict[str, object]:
    """Return the further members of an error's problem document."""
    return {"activeMessageId": error.active_message_id} if isinstance(error, StreamInProgress) else {}


def problem(error: ChatError, request_id: str, kind: ProblemType | None = None) -> Response:
    """Return the response that tells a client of `error`; `kind` is for errors that only the caller knows."""
    status, title = kind or problem_type(type(error))
    document = {
        "type": TYPE_PREFIX + error.code,
        "title": title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "requestId": request_id,
        **problem_members(error),
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    return Response(content, status, {"Cache-Control": "no-store", **problem_headers(error)}, MEDIA_TYPE)


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return Starlette's handlers for the errors that we raise and those that its router raises."""
    return {ChatError: _answer, HTTPException: _answer}


# Not a plain function: Starlette would run that in a thread.
async def _answer(request: Request, error: Exception) -> Response:
    return problem(_expected(request, error), request_id(request.scope))


def _expected(request: Request, error: Exception) -> ChatError:
    if isinstance(error, ChatError):
        return error
    status = error.status_code if isinstance(error, HTTPException) else None
    if status == 404:
        return NotFound("This function has no such route.")
    if status == 405:
        return MethodNotAllowed(_allowed_methods(request.scope))
    if status == 413:
        return PayloadTooLarge("The body is too large.")
    raise error


def _allowed_methods(scope: Scope) -> str:
    """Return the methods of all routes with this path; Starlette's own `Allow` knows only the first of them."""
    routes = [route for route in scope["app"].routes if isinstance(route, Route)]
    here = [route.methods or set() for route in routes if route.matches(scope)[0] is not Match.NONE]
    return ", ".join(sorted(set().union(*here)))


class UnknownErrors:
    """ASGI middleware that answers an unknown error with a 500, once: it is logged here and goes no further.

    Put it first among an application's middleware. Starlette's own handler for `Exception` raises the error again after
    its response, so that the server below would report it a second time. After the first byte nothing can be answered
    any more: then the error is raised to the server, which alone can mark the response as broken.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            with bind(requestId=request_id(scope)):
                await self._app(scope, receive, watch)
        # The last boundary before the platform: whatever is left must become a response.
        except Exception as error:
            if has_started or scope["type"] != "http":
                raise
            await _last_answer(scope, error)(scope, receive, send)


def _last_answer(scope: Scope, error: Exception) -> Response:
    if isinstance(error, ChatError):
        return problem(error, request_id(scope))
    logger.error("unknown error in request %s: %s", request_id(scope), describe(error))
    return problem(ChatError("Something went wrong on our side."), request_id(scope))
