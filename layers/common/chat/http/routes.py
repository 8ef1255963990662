"""The routes of the three functions: requests in, use cases, responses out. What a client may send is checked here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from chat.application.cancel_answer import CancelAnswer, Cancelled, Cancelling, CancelResult, CancelTarget
from chat.application.follow_answer import FollowAnswer, Following, FollowRequest
from chat.application.run_answer import AnswerRun
from chat.application.start_answer import SendMessage, StartAnswer
from chat.domain.model import StoredAnswer
from chat.http.auth.identity import TokenVerifier, identify_caller, identify_canceller
from chat.http.cors import Cors
from chat.http.errors import InvalidRequest
from chat.http.event_stream import EventStreamResponse
from chat.http.health import Health
from chat.http.problems import UnknownErrors, exception_handlers
from chat.http.request_fields import (
    ATTEMPT_ID_FIELD,
    CHAT_ID,
    MESSAGE_ID,
    MESSAGE_ID_FIELD,
    USER_MESSAGE_ID,
    USER_MESSAGE_ID_FIELD,
    Body,
    LastEventId,
    content_field,
    last_event_id,
    model_field,
    parent_field,
    read_json,
)
from chat.http.sse import encoder
from chat.settings import Settings

Endpoint = Callable[[Request], Awaitable[Response]]

DEFAULT_SECONDS_LEFT = 900.0
"""Where no platform sets a deadline: as long as Lambda's longest.

Source: AWS Lambda quotas, function timeout.
"""
FOLLOWER_MARGIN_SECONDS = 1.0
"""A follower's response ends so long before its deadline, so that the client reconnects instead of seeing an error."""


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """What every function's routes need."""

    settings: Settings
    tokens: TokenVerifier | None
    health: Health


def application(deps: HttpDeps, routes: Sequence[Route], lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """Return an ASGI application of `routes` and `/health`, with problem documents for all errors."""
    middleware = [Middleware(UnknownErrors)]
    if origins := deps.settings.allowed_origins:
        middleware.insert(0, Middleware(Cors, allowed_origins=origins))
    app = Starlette(
        routes=[*routes, route("/health", health_endpoint(deps.health), "GET", "HEAD")],
        exception_handlers=exception_handlers(),
        middleware=middleware,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path with a slash too many is no route
    return app


def health_endpoint(health: Health) -> Endpoint:
    """Return the endpoint of `/health`."""

    async def endpoint(request: Request) -> Response:
        report = await health.report()
        return JSONResponse(report, 200 if report["mysql"]["ok"] else 503, {"cache-control": "no-store"})

    return endpoint


def stream_routes(deps: HttpDeps, stream: StartAnswer, follow: FollowAnswer) -> list[Route]:
    """Return the routes of stream_chat."""
    settings = deps.settings

    async def send(request: Request) -> Response:
        caller = await identify_caller(request, deps.tokens)
        chat_id = CHAT_ID.read(request)
        last = last_event_id(request)
        if last is not None:
            return await resume(request, chat_id, caller.user_id, caller.session_id, last)
        body = await read_json(request, settings.max_body_bytes)
        models = settings.ai.models if settings.ai is not None else ()
        message = SendMessage(
            chat_id=chat_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
            seconds_left=seconds_left(request),
            model=model_field(body, models),
            cancels_busy=_cancels_busy(body),
            **_what_is_sent(body, settings.max_content_chars),
        )
        found = await stream(message)
        if isinstance(found, StoredAnswer):
            return watch(request, await follow.from_stored(found, caller.user_id, caller.session_id))
        return generate(found)

    async def watch_or_resume(request: Request) -> Response:
        caller = await identify_caller(request, deps.tokens)
        return await resume(request, CHAT_ID.read(request), caller.user_id, caller.session_id, last_event_id(request))

    async def resume(
        request: Request, chat_id: str, user_id: str, session_id: str, last: LastEventId | None
    ) -> Response:
        following = await follow(chat_id, user_id, session_id, follow_request(request, last))
        if following is None:
            return Response(status_code=204)
        return watch(request, following)

    def generate(generation: AnswerRun) -> Response:
        encode = encoder(generation.answer.identity.message_id)
        return EventStreamResponse(generation, encode, settings.heartbeat_seconds, must_finish=True)

    def watch(request: Request, following: Following) -> Response:
        seconds = max(seconds_left(request) - FOLLOWER_MARGIN_SECONDS, FOLLOWER_MARGIN_SECONDS)
        encode = encoder(following.message_id)
        return EventStreamResponse(following, encode, settings.heartbeat_seconds, False, seconds)

    path = "/api/chat/{chatId}/stream"
    return [route(path, send, "POST"), route(path, watch_or_resume, "GET")]


class _Sent(TypedDict):
    content: str | None
    user_message_id: str | None
    parent_id: str | None
    attempt_id: str | None


def _what_is_sent(body: Body, max_chars: int) -> _Sent:
    """Return the message, or which one is to be answered once more."""
    again = body.get("regenerate")
    if again is None:
        return {
            "content": content_field(body, max_chars),
            "user_message_id": USER_MESSAGE_ID_FIELD.read(body),
            "parent_id": parent_field(body),
            "attempt_id": None,
        }
    if not isinstance(again, dict):
        raise InvalidRequest("The field regenerate must be an object.")
    for name in ("content", "userMessageId", "parentMessageId"):
        if body.get(name) is not None:
            raise InvalidRequest(f"Send regenerate or {name}, not both.")
    user_message_id = USER_MESSAGE_ID_FIELD.read(again)
    if user_message_id is None:
        raise InvalidRequest("The field userMessageId of regenerate is missing.")
    return {
        "content": None,
        "user_message_id": user_message_id,
        "parent_id": None,
        "attempt_id": ATTEMPT_ID_FIELD.read(again),
    }


def _cancels_busy(body: Body) -> bool:
    on_busy = body.get("onBusy", "reject")
    if on_busy not in ("reject", "cancel"):
        raise InvalidRequest("The field onBusy must be reject or cancel.")
    return on_busy == "cancel"


def cancel_routes(deps: HttpDeps, cancel: CancelAnswer) -> list[Route]:
    """Return the routes of cancel_stream."""
    settings = deps.settings

    async def endpoint(request: Request) -> Response:
        caller = await identify_canceller(request, deps.tokens)
        chat_id = CHAT_ID.read(request)
        body = await read_json(request, settings.max_body_bytes, may_be_empty=True)
        target = CancelTarget(MESSAGE_ID_FIELD.read(body), USER_MESSAGE_ID_FIELD.read(body))
        if target.message_id and target.user_message_id:
            raise InvalidRequest("Send messageId or userMessageId, not both.")
        return JSONResponse(describe(await cancel(chat_id, caller.user_id, caller.session_id, target)))

    return [route("/api/chat/{chatId}/cancel", endpoint, "POST")]


def route(path: str, endpoint: Endpoint, *methods: str) -> Route:
    """Return a route of exactly these methods and this path."""
    made = Route(path, endpoint, methods=methods)
    made.methods = set(methods)  # without the HEAD that Starlette adds to GET: it would stream an answer to nobody
    made.path_regex = re.compile(made.path_regex.pattern.removesuffix("$") + r"\Z")  # `$` allows a line feed after it
    return made


def describe(outcome: CancelResult) -> dict[str, object]:
    """Return what a client is told of a cancel."""
    if isinstance(outcome, Cancelled):
        answer = outcome.answer
        elapsed = (answer.finished_at or answer.created_at) - answer.created_at
        return {
            "success": True,
            "status": "cancelled",
            "messageId": answer.identity.message_id,
            "characters": len(answer.text),
            "elapsedMs": round(elapsed.total_seconds() * 1000),
            "message": "The answer was cancelled; the partial text was saved.",
        }
    if isinstance(outcome, Cancelling):
        message = "Cancelling: the answer is not saved yet, or its message has not arrived."
        return {"success": True, "status": "cancelling", "messageId": outcome.message_id, "message": message}
    return {"success": False, "status": "not_active", "message": "There is no active answer to cancel."}


def rfc3339(moment: datetime) -> str:
    """Return the moment in UTC with milliseconds and `Z`.

    Source: RFC 3339, section 5.6.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_left(request: Request) -> float:
    """Return how long the platform lets this request run."""
    context = request.scope.get("aws.context")
    if context is None:
        return DEFAULT_SECONDS_LEFT
    return max(float(context.get_remaining_time_in_millis()) / 1000, 0.0)


def follow_request(request: Request, last: LastEventId | None) -> FollowRequest:
    """Return what a client wants to follow, by the last event that it has or by its query."""
    if last is not None:
        has_all = last.number == "done"
        return FollowRequest(last.message_id, after=None if has_all else int(last.number), has_all=has_all)
    message_id, user_message_id = MESSAGE_ID.read(request), USER_MESSAGE_ID.read(request)
    if message_id and user_message_id:
        raise InvalidRequest("Send messageId or userMessageId, not both.")
    return FollowRequest(message_id, user_message_id)
