"""The Runtime API that one process of a function talks to, as an ASGI application.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, and for streamed responses
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local.function import Environment
from local.function_url import LIMIT_BYTES, BadResponse, Head, from_result, split_prelude
from local.invocation import Invocation, InvocationFailed

_ROOT = "/2018-06-01/runtime"
_INVOCATION = re.compile(rf"{_ROOT}/invocation/([^/]+)/(response|error)")
_STREAMED = "application/vnd.awslambda.http-integration-response"


class RuntimeApi:
    """Hands out requests and takes responses."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["fields"] = scope["headers"]
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        match request.method, request.url.path:
            case "GET", path if path == f"{_ROOT}/invocation/next":
                return await self._next(request)
            case "POST", path if path == f"{_ROOT}/init/error":
                return await self._init_error(request)
            case "POST", path if found := _INVOCATION.fullmatch(path):
                return await self._finish(request, *found.groups())
        return _refusal(404, "ResourceNotFound")

    async def _next(self, request: Request) -> Response:
        asking = self._environment.ask()
        leaving = asyncio.create_task(_departure(request))
        waited_for: set[asyncio.Future[Any]] = {asking, leaving}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        has_left = leaving.done()
        leaving.cancel()
        if has_left or asking.cancelled() or not self._environment.kept.is_running:
            self._stop_asking(asking)
            return _refusal(500, "ProcessEnded")
        return self._hand_out(asking.result())

    def _stop_asking(self, asking: asyncio.Future[Invocation]) -> None:
        if not asking.cancel() and not asking.cancelled():
            self._environment.function.give_back(asking.result())

    def _hand_out(self, invocation: Invocation) -> Response:
        deadline_ms = self._environment.take(invocation)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self._environment.function.plan.arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
            "Lambda-Runtime-Invocation-Id": invocation.id,
        }
        return Response(invocation.event, headers=headers, media_type="application/json")

    async def _init_error(self, request: Request) -> Response:
        self._environment.kept.last_words = _describe(await request.body())
        return _accepted()

    async def _finish(self, request: Request, request_id: str, what: str) -> Response:
        invocation = self._environment.find(request_id)
        if invocation is None:
            return _refusal(400, "InvalidRequestID")
        if request.headers.get("lambda-runtime-invocation-id", request_id) != request_id:
            return _refusal(400, "InvalidInvocationID")
        if invocation.has_begun:
            return _refusal(403, "InvalidStateTransition")
        is_late = invocation.is_over
        try:
            await (_take_error(request, invocation) if what == "error" else _take_response(request, invocation))
        finally:
            self._environment.finish(invocation)
        return _refusal(410, "InvocationTimeout") if is_late else _accepted()


async def _departure(request: Request) -> None:
    """Return when the other side has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _take_error(request: Request, invocation: Invocation) -> None:
    await request.body()
    invocation.fail(InvocationFailed("The function reported an error."))


async def _take_response(request: Request, invocation: Invocation) -> None:
    is_streamed = request.headers.get("lambda-runtime-function-response-mode", "").lower() == "streaming"
    try:
        await (_pass_on(request, invocation) if is_streamed else _take_whole(request, invocation))
    except BadResponse as error:
        invocation.fail(InvocationFailed(f"The function's response cannot be used: {error}."))
    except ClientDisconnect:
        invocation.fail(InvocationFailed("The function broke off its response."))
        raise
    if "lambda-runtime-function-error-type" in _fields(request):
        invocation.fail(InvocationFailed("The function failed in the middle of its response."))
    invocation.end()


async def _take_whole(request: Request, invocation: Invocation) -> None:
    received = bytearray()
    async for data in request.stream():
        if len(received) <= LIMIT_BYTES:
            received += data
    head, body = from_result(bytes(received))
    invocation.begin(head)
    await invocation.write(body)


async def _pass_on(request: Request, invocation: Invocation) -> None:
    pieces = request.stream()
    await invocation.write(await _begin(request, pieces, invocation))
    async for data in pieces:
        await invocation.write(data)


async def _begin(request: Request, pieces: AsyncIterator[bytes], invocation: Invocation) -> bytes:
    """Pass on the head of a streamed response; return what of its body has come with it."""
    if request.headers.get("content-type") != _STREAMED:
        invocation.begin(Head(200, [(b"content-type", b"application/octet-stream")]))
        return b""
    received = b""
    async for data in pieces:
        received += data
        if parts := split_prelude(received):
            invocation.begin(parts[0])
            return parts[1]
    raise BadResponse("it ended within the prelude")


def _fields(request: Request) -> set[str]:
    """Return the names of all headers and, once the body has been read, trailers.

    ASGI knows no trailers; uvicorn's httptools protocol appends them to the list that it gave to the scope.
    """
    return {name.decode("latin-1").lower() for name, _ in request.state.fields}


def _describe(error: bytes) -> str:
    try:
        document = json.loads(error)
        return f"{document['errorType']}: {document['errorMessage']}".splitlines()[0][:300]
    except (ValueError, KeyError, TypeError, IndexError):
        return "it reported an error without saying which"


def _accepted() -> Response:
    return JSONResponse({"status": "OK"}, 202)


def _refusal(status: int, kind: str) -> Response:
    return JSONResponse({"errorType": kind, "errorMessage": kind}, status)
