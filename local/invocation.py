"""One request on its way through a function: the event in, the response out, bytes passed on as they come.

Source, for the response: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, and where it is streamed
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from chat.domain.errors import ChatError
from chat.http.problems import ProblemType
from lambda_stream.testing import ErrorReport
from lambda_stream.testing import Invocation as Emulated
from local.function_url import LIMIT_BYTES, BadResponse, Head, from_result, split_prelude

_BUFFER_BYTES = 64 * 1024
_ERROR_TYPE = "lambda-runtime-function-error-type"
_STREAMED = "application/vnd.awslambda.http-integration-response"


class InvocationFailed(ChatError):
    """No response, or not the whole of it; what the client is told when nothing has been sent yet."""

    problem_type = ProblemType(502, "Bad gateway")

    def __init__(self, detail: str = "The function failed before it had answered.") -> None:
        super().__init__(detail)


class TimedOut(InvocationFailed):
    """The function's time for the request is over."""

    problem_type = ProblemType(504, "Gateway timeout")

    def __init__(self) -> None:
        super().__init__("The function did not answer in the time it has.")


class Invocation(Emulated):
    """An event and its response. The function's side writes, the client's side reads, at the pace of the slower one.

    What is written after `end` or `fail` is dropped: whoever gave up does not hold up the function.
    """

    def __init__(self, request_id: str, event: bytes, trace_id: str, function_arn: str) -> None:
        super().__init__(
            event, request_id=request_id, trace_id=trace_id, function_arn=function_arn, invocation_id=request_id
        )
        self.has_begun = False
        """Status and headers are known."""
        self._head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._is_streamed = False
        self._received = bytearray()
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._error: ChatError | None = None
        self._readable = asyncio.Event()

    @property
    def is_late(self) -> bool:
        return self._is_over

    def on_response(self, headers: Mapping[str, str]) -> None:
        super().on_response(headers)
        self._is_streamed = headers.get("lambda-runtime-function-response-mode", "").lower() == "streaming"
        if self._is_streamed and headers.get("content-type") != _STREAMED:
            self._begin(Head(200, [(b"content-type", b"application/octet-stream")]))

    def on_chunk(self, data: bytes) -> None:
        if self.has_begun:
            self._write(data)
            return
        if len(self._received) <= LIMIT_BYTES:
            self._received += data
        if self._is_streamed:
            self._read_prelude()

    def _read_prelude(self) -> None:
        try:
            parts = split_prelude(bytes(self._received))
        except BadResponse as error:
            self._unusable(error)
            return
        if parts is not None:
            self._received.clear()
            self._begin(parts[0])
            self._write(parts[1])

    def on_complete(self, trailers: Mapping[str, str]) -> None:
        if not self._is_streamed:
            self._read_result()
        elif not self.has_begun:
            self._unusable(BadResponse("it ended within the prelude"))
        if _ERROR_TYPE in trailers or _ERROR_TYPE in self.head:
            self.fail(InvocationFailed("The function failed in the middle of its response."))
        self.end()

    def _read_result(self) -> None:
        try:
            head, body = from_result(bytes(self._received))
        except BadResponse as error:
            self._unusable(error)
        else:
            self._begin(head)
            self._write(body)

    def on_error(self, headers: Mapping[str, str], report: ErrorReport) -> None:
        self.fail(InvocationFailed("The function reported an error."))

    def on_broken(self) -> None:
        self.fail(InvocationFailed("The function broke off its response."))

    def _unusable(self, error: BadResponse) -> None:
        self.fail(InvocationFailed(f"The function's response cannot be used: {error}."))

    def _begin(self, head: Head) -> None:
        if not self._head.done():
            self.has_begun = True
            self._head.set_result(head)

    def _write(self, data: bytes) -> None:
        """Pass on some of the body; nothing more is read of it until the client's side can take more."""
        if self._is_over or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size > _BUFFER_BYTES:
            self.pause()

    def end(self) -> None:
        """Say that the response is complete; without effect once it is over."""
        if not self._is_over:
            self._close(None)

    def fail(self, error: ChatError) -> None:
        """Say that there is no response, or not the rest of it; without effect once it is over."""
        if not self._is_over:
            self._close(error)
            if not self._head.done():
                self._head.set_exception(error)
                self._head.exception()  # seen, where the client has left

    def _close(self, error: ChatError | None) -> None:
        self._is_over = True
        self._error = error
        self._readable.set()
        self.resume()

    async def response(self) -> Head:
        """Wait for status and headers.

        Raises:
            ChatError: there will be none, and why.
        """
        return await asyncio.shield(self._head)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield what has arrived of the body, as soon as it has.

        Raises:
            ChatError: the rest will not come.
        """
        while True:
            await self._readable.wait()
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces.clear()
                self._size = 0
                if not self._is_over:
                    self._readable.clear()
                self.resume()
                yield data
            elif self._error is not None:
                raise self._error
            else:
                return
