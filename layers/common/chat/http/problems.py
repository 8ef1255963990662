"""Turns errors into responses before the first byte: the only place that does. Knows nothing of routes or stores.

`exception_handlers` covers the errors that are expected, `UnknownErrors` all others; an application needs both.

Source: RFC 9457 (problem details).
"""

from __future__ import annotations

import json
import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from chat.domain.errors import ChatError, MethodNotAllowed, NotFound, PayloadTooLarge
from chat.domain.model import new_id
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


def problem(error: ChatError, request_id: str) -> Response:
    """Return the response that tells a client of `error`."""
    document = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "requestId": request_id,
        **error.extras,
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    return Response(content, error.status, {"Cache-Control": "no-store", **error.headers}, MEDIA_TYPE)


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
