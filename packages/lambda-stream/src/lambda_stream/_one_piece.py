"""One response for a front door that cannot stream: gathered, then handed over as one JSON document.

Source: API Gateway developer guide, "Lambda proxy integrations", "Working with AWS Lambda proxy integrations for HTTP
APIs"; Elastic Load Balancing, "Use Lambda functions as targets".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from lambda_stream import _prelude as prelude
from lambda_stream._errors import ResponseClosed
from lambda_stream._event import Answer
from lambda_stream._invocation import Invocation
from lambda_stream._runtime_api import RuntimeApi, error_of


class OnePiece:
    """Takes what `ResponseStream` takes; nothing leaves before `settle`."""

    is_broken = False

    def __init__(self, api: RuntimeApi, invocation: Invocation, answer: Answer) -> None:
        self._api = api
        self._invocation = invocation
        self._answer = answer
        self._prelude: dict[str, Any] | None = None
        self._body = bytearray()
        self._error: tuple[str, str] | None = None
        self._is_finished = False

    @property
    def is_started(self) -> bool:
        return self._prelude is not None

    async def connect(self) -> None:
        """Nothing is connected before the end."""

    async def start(self, encoded: bytes) -> None:
        """Begin with a prelude, encoded as for a stream."""
        self._prelude = json.loads(encoded.removesuffix(prelude.SEPARATOR))

    async def write(self, data: bytes) -> None:
        """Add to the body.

        Raises:
            ResponseClosed: it has ended.
        """
        if self._is_finished:
            raise ResponseClosed("the response has ended")
        self._body += data

    def write_now(self, data: bytes) -> bool:
        """Leave it to `send`: nobody gains by haste."""
        return False

    def finish(self, trailers: Mapping[str, str] | None = None) -> None:
        """End the body; with error trailers, the whole answer is an error."""
        self._is_finished = True
        self._error = error_of(trailers) if trailers else None

    async def settle(self) -> int:
        """Hand it over; return the Runtime API's status.

        Raises:
            ResponseClosed: it was not begun, or not accepted.
        """
        if self._prelude is None:
            raise ResponseClosed("no response was begun")
        if self._error is not None:
            return await self._api.report_error(self._invocation, *self._error)
        document = result(self._prelude, bytes(self._body), self._answer)
        return await self._api.respond(self._invocation, json.dumps(document).encode())

    def close(self) -> None:
        """Nothing is open."""


def result(head: Mapping[str, Any], body: bytes, answer: Answer) -> dict[str, Any]:
    """Return the document of a response, as the front door wants it."""
    status, headers, cookies = head["statusCode"], dict(head["headers"]), head.get("cookies", [])
    is_text = "content-encoding" not in headers and _is_utf_8(body)
    text = body.decode() if is_text else base64.b64encode(body).decode("ascii")
    found: dict[str, Any] = {"statusCode": status, "body": text, "isBase64Encoded": not is_text}
    match answer:
        case Answer.HTTP_API_1:
            return found | {"headers": headers, "multiValueHeaders": {"set-cookie": cookies} if cookies else {}}
        case Answer.LOAD_BALANCER:
            last = {"set-cookie": cookies[-1]} if cookies else {}
            return found | {"statusDescription": _described(status), "headers": headers | last}
        case Answer.LOAD_BALANCER_LISTS:
            lists = {name: [value] for name, value in headers.items()} | ({"set-cookie": cookies} if cookies else {})
            return found | {"statusDescription": _described(status), "multiValueHeaders": lists}
    return found | {"headers": headers, "cookies": cookies}


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _described(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
