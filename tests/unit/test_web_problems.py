"""Errors as responses: problem documents, the router's errors, and the last resort."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chat.domain.errors import (
    ChatError,
    ChatNotFound,
    IdempotencyConflict,
    InvalidContent,
    RateLimited,
    StorageUnavailable,
    StreamInProgress,
)
from chat.domain.model import canonical_uuid
from chat.http.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from chat.http.problems import MEDIA_TYPE, TYPE_PREFIX, UnknownErrors, describe, exception_handlers, problem, request_id
from tests.kit.web_request import Body, Reply, scope_of

SECRET = "the user's own words, and mysql://root:hunter2@db"


def app_raising(error: Exception) -> Starlette:
    async def fail(request: Request) -> Response:
        raise error

    return Starlette(
        routes=[
            Route("/it", fail, methods=["POST"]),
            Route("/it", fail, methods=["GET"]),
            Route("/other", fail, methods=["PUT"]),
        ],
        middleware=[Middleware(UnknownErrors)],
        exception_handlers=exception_handlers(),
    )


async def ask(app: Any, method: str = "POST", path: str = "/it", aws_request_id: str | None = "req-1") -> Reply:
    reply = Reply()
    scope = scope_of(method=method, path=path)
    if aws_request_id:
        scope["aws.context"] = SimpleNamespace(aws_request_id=aws_request_id)
    await app(scope, Body(), reply)
    return reply


@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (InvalidRequest("d"), 400, "invalid_request", None),
        (Unauthenticated("d"), 401, "unauthenticated", ("www-authenticate", 'Bearer realm="chat"')),
        (Forbidden("d"), 403, "forbidden", None),
        (ChatNotFound(), 404, "chat_not_found", None),
        (NotFound("d"), 404, "not_found", None),
        (MethodNotAllowed("GET, POST"), 405, "method_not_allowed", ("allow", "GET, POST")),
        (IdempotencyConflict("d"), 409, "idempotency_conflict", None),
        (StreamInProgress("m1"), 409, "stream_in_progress", None),
        (PayloadTooLarge("d"), 413, "payload_too_large", None),
        (UnsupportedMediaType("d"), 415, "unsupported_media_type", None),
        (InvalidContent("d"), 422, "invalid_content", None),
        (RateLimited("d", 7), 429, "rate_limited", ("retry-after", "7")),
        (StorageUnavailable(), 503, "storage_unavailable", ("retry-after", "1")),
    ],
    ids=lambda value: value.code if isinstance(value, ChatError) else "",
)
async def test_every_error_becomes_a_problem_document_with_its_status_code_and_headers(error, status, code, header):
    reply = await ask(app_raising(error))

    document = json.loads(reply.body)
    assert reply.status == status
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert reply.headers["cache-control"] == "no-store"
    assert document["type"] == TYPE_PREFIX + code
    assert (document["status"], document["code"], document["requestId"]) == (status, code, "req-1")
    assert document["title"] and document["detail"]
    if header:
        assert reply.headers[header[0]] == header[1]


def test_further_members_stand_beside_the_usual_ones():
    document = json.loads(bytes(problem(StreamInProgress("m1"), "r").body))
    assert document["activeMessageId"] == "m1"
    assert document["code"] == "stream_in_progress"


async def test_unknown_and_foreign_chats_are_answered_with_the_same_bytes_but_for_the_request_id():
    first = await ask(app_raising(ChatNotFound()), aws_request_id="1" * 36)
    second = await ask(app_raising(ChatNotFound()), aws_request_id="2" * 36)
    assert first.body != second.body
    assert first.body.replace(b"1" * 36, b"2" * 36) == second.body
    assert first.headers == second.headers


async def test_a_path_that_is_no_route_is_not_found_and_not_repeated():
    reply = await ask(app_raising(ChatNotFound()), path="/<script>")
    document = json.loads(reply.body)
    assert (reply.status, document["code"]) == (404, "not_found")
    assert b"script" not in reply.body


async def test_a_wrong_method_names_all_methods_of_the_path():
    reply = await ask(app_raising(ChatNotFound()), method="DELETE")
    assert (reply.status, json.loads(reply.body)["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD, POST"


async def test_a_body_that_starlette_finds_too_large_is_our_413():
    reply = await ask(app_raising(HTTPException(413)))
    assert json.loads(reply.body)["code"] == "payload_too_large"


async def test_an_unknown_error_is_a_500_logged_once_with_the_request_id_and_goes_no_further(caplog):
    reply = await ask(app_raising(KeyError(SECRET)))

    document = json.loads(reply.body)
    assert (reply.status, document["code"], document["requestId"]) == (500, "internal_error", "req-1")
    assert "KeyError" not in str(document) and "Traceback" not in str(document)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "req-1" in caplog.text
    assert "KeyError at " in caplog.text and "fail" in caplog.text


async def test_the_log_of_an_unknown_error_never_holds_the_errors_own_words(caplog):
    error = RuntimeError(SECRET)
    error.__cause__ = ExceptionGroup(SECRET, [ValueError(SECRET)])
    await ask(app_raising(error))
    assert "RuntimeError" in caplog.text and "ExceptionGroup" in caplog.text and "ValueError" in caplog.text
    assert "words" not in caplog.text and "hunter2" not in caplog.text


async def test_an_http_exception_that_nobody_expects_is_an_unknown_error(caplog):
    reply = await ask(app_raising(HTTPException(418, detail=SECRET)))
    assert (reply.status, len(caplog.records)) == (500, 1)
    assert b"hunter2" not in reply.body


async def test_an_expected_error_is_not_logged(caplog):
    await ask(app_raising(InvalidRequest("d")))
    assert caplog.records == []


async def test_an_expected_error_outside_of_starlettes_handlers_is_still_a_problem_document(caplog):
    async def app(scope, receive, send):
        raise Forbidden("d")

    reply = await ask(UnknownErrors(app))
    assert (reply.status, caplog.records) == (403, [])


async def test_an_error_after_the_first_byte_is_the_servers_and_adds_no_second_response(caplog):
    async def app(scope, receive, send):
        await StreamingResponse(iter([b"begun"]))(scope, receive, send)
        raise KeyError("late")

    reply = Reply()
    with pytest.raises(KeyError):
        await UnknownErrors(app)(scope_of(), Body(), reply)
    assert [m["type"] for m in reply.messages].count("http.response.start") == 1
    assert caplog.records == []


async def test_cancellation_passes_through():
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await UnknownErrors(app)(scope_of(), Body(), Reply())


def test_the_request_id_is_the_platforms_or_else_one_of_ours_that_stays():
    given = scope_of(**{"aws.context": SimpleNamespace(aws_request_id="abc")})
    own = scope_of()
    assert request_id(given) == "abc"
    assert canonical_uuid(request_id(own))
    assert request_id(own) == request_id(own)
    assert request_id(own) != request_id(scope_of())


async def test_the_document_and_the_log_carry_the_same_request_id_where_the_platform_gives_none(caplog):
    reply = await ask(app_raising(KeyError()), aws_request_id=None)
    assert json.loads(reply.body)["requestId"] in caplog.text


def test_a_description_ends_even_if_errors_cause_each_other():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first).count("caused by") == 4
