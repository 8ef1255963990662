"""The Runtime API's routes: requests as bytes, and error reports sent and answered.

Source: AWS Lambda developer guide, "Using the Lambda runtime API", "Building a custom runtime" and "Using the Lambda
Extensions API to create extensions".
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

from lambda_stream import _prelude as prelude
from lambda_stream._connection import Connection
from lambda_stream._errors import RuntimeApiError
from lambda_stream._http11 import request
from lambda_stream._invocation import Invocation
from lambda_stream._settings import Timeouts

_ROOT = "/2018-06-01/runtime"
_EXTENSION = "/2020-01-01/extension"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
_MAX_MESSAGE_CHARACTERS = 1000


class RuntimeApi:
    """The Runtime API at one address; each call but a poll takes a connection of its own."""

    def __init__(self, host: str, port: int, timeouts: Timeouts) -> None:
        self._host, self._port = host, port
        self.timeouts = timeouts
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            Disconnected: it cannot be had.
        """
        return await Connection.open(self._host, self._port, self.timeouts.connect)

    def next_request(self) -> bytes:
        """Encode a poll."""
        return self._request("GET", "/invocation/next", {})

    async def restore_next(self) -> None:
        """Say that the snapshot can be taken; return once it was restored, however long after.

        Raises:
            RuntimeApiError: it cannot be said, or the Runtime API refuses.
        """
        async with await self.connect() as connection:
            connection.write(self._request("GET", "/restore/next", {"Connection": "close"}))
            head = await connection.head()
            if head.status != 200:
                raise RuntimeApiError(f"the Runtime API answered /restore/next with {head.status}")

    async def register_extension(self, name: str) -> str:
        """Register an internal extension for no event; return its identifier.

        Raises:
            RuntimeApiError: it is refused, or nobody answers.
        """
        body = b'{"events": []}'
        headers = {"Lambda-Extension-Name": name, "Content-Type": "application/json", "Content-Length": str(len(body))}
        async with await self.connect() as connection:
            path = f"{_EXTENSION}/register"
            connection.write(self._request("POST", path, headers | {"Connection": "close"}, body, root=""))
            head = await connection.head()
        identifier = head.headers.get("lambda-extension-identifier")
        if head.status != 200 or identifier is None:
            raise RuntimeApiError(f"the Extensions API answered a registration with {head.status}")
        return identifier

    async def next_extension_event(self, identifier: str) -> None:
        """Wait for an extension's next event, for as long as it takes.

        Raises:
            RuntimeApiError: it is refused, or the connection ended.
        """
        async with await self.connect() as connection:
            headers = {"Lambda-Extension-Identifier": identifier}
            connection.write(self._request("GET", f"{_EXTENSION}/event/next", headers, root=""))
            head = await connection.head()
        if head.status != 200:
            raise RuntimeApiError(f"the Extensions API answered a poll with {head.status}")

    def response_head(self, invocation: Invocation) -> bytes:
        """Encode the head of a streamed response; prelude, body and trailers follow as chunks."""
        headers = {
            "Content-Type": prelude.CONTENT_TYPE,
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
            "Trailer": f"{_ERROR_TYPE}, {_ERROR_BODY}",
            "Connection": "close",
        }
        return self._request("POST", f"/invocation/{invocation.request_id}/response", headers | _echo(invocation))

    async def respond(self, invocation: Invocation, result: bytes) -> int:
        """Answer an invocation in one piece; return the status.

        Raises:
            RuntimeApiError: it could not be delivered.
        """
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(result)),
            "Connection": "close",
            **_echo(invocation),
        }
        async with await self.connect() as connection:
            path = f"/invocation/{invocation.request_id}/response"
            connection.write(self._request("POST", path, headers, result))
            return await self._answer(connection)

    async def report_init_error(self, error_type: str, message: str) -> int:
        """Tell that the function cannot start; return the status.

        Raises:
            RuntimeApiError: it could not be told.
        """
        return await self._report("/init/error", error_type, message, {})

    async def report_restore_error(self, error_type: str, message: str) -> int:
        """Tell that the function cannot go on from its snapshot; return the status.

        Raises:
            RuntimeApiError: it could not be told.
        """
        return await self._report("/restore/error", error_type, message, {})

    async def report_error(self, invocation: Invocation, error_type: str, message: str) -> int:
        """Answer an invocation to which no response has begun with an error; return the status.

        Raises:
            RuntimeApiError: it could not be told.
        """
        return await self._report(f"/invocation/{invocation.request_id}/error", error_type, message, _echo(invocation))

    async def _report(self, path: str, error_type: str, message: str, headers: Mapping[str, str]) -> int:
        body = error_document(error_type, message)
        own = {
            "Content-Type": "application/vnd.aws.lambda.error+json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            _ERROR_TYPE: error_type,
        }
        async with await self.connect() as connection:
            connection.write(self._request("POST", path, own | dict(headers), body))
            return await self._answer(connection)

    async def _answer(self, connection: Connection) -> int:
        try:
            async with asyncio.timeout(self.timeouts.reply):
                return (await connection.head()).status
        except TimeoutError as error:
            raise RuntimeApiError("the Runtime API did not answer") from error

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", root: str = _ROOT
    ) -> bytes:
        common = {"Host": self._authority, "User-Agent": "lambda_stream/1"}
        return request(method, root + path, common | dict(headers), body)


def error_document(error_type: str, message: str) -> bytes:
    """Encode an error as Lambda shows it. No stack trace: the log has it."""
    document = {"errorType": error_type, "errorMessage": message[:_MAX_MESSAGE_CHARACTERS], "stackTrace": []}
    return json.dumps(document).encode()


def error_trailers(error_type: str, document: bytes) -> dict[str, str]:
    """Return the trailers that tell of an error after the first byte."""
    return {_ERROR_TYPE: error_type, _ERROR_BODY: base64.b64encode(document).decode("ascii")}


def error_of(trailers: Mapping[str, str]) -> tuple[str, str]:
    """Return type and message of such trailers."""
    document = json.loads(base64.b64decode(trailers[_ERROR_BODY]))
    return trailers[_ERROR_TYPE], document["errorMessage"]


def _echo(invocation: Invocation) -> dict[str, str]:
    return {"Lambda-Runtime-Invocation-Id": invocation.invocation_id} if invocation.invocation_id else {}
