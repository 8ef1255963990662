"""One request on its way through a function: the event in, the response out, bytes passed on as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from chat.domain.errors import ChatError
from chat.http.problems import ProblemType
from local.function_url import Head

_BUFFER_BYTES = 64 * 1024


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


class Invocation:
    """An event and its response. The function's side writes, the client's side reads, at the pace of the slower one.

    What is written after `end` or `fail` is dropped: whoever gave up does not hold up the function.
    """

    def __init__(self, request_id: str, event: bytes, trace_id: str) -> None:
        self.id = request_id
        self.event = event
        self.trace_id = trace_id
        self.has_begun = False
        self._head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._error: ChatError | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Nothing more is passed on."""
        return self._is_over

    def begin(self, head: Head) -> None:
        """Pass on status and headers; only the first call counts."""
        if not self._head.done():
            self.has_begun = True
            self._head.set_result(head)

    async def write(self, data: bytes) -> None:
        """Pass on some of the body; returns when the client's side can take more."""
        if self._is_over or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size > _BUFFER_BYTES:
            self._writable.clear()
            await self._writable.wait()

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

    def _close(self, error: ChatError | None) -> None:
        self._is_over = True
        self._error = error
        self._readable.set()
        self._writable.set()

    async def head(self) -> Head:
        """Wait for status and headers.

        Raises:
            ChatError: there will be none, and why.
        """
        return await asyncio.shield(self._head)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield what has arrived, as soon as it has.

        Raises:
            ChatError: the rest will not come.
        """
        while True:
            await self._readable.wait()
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces.clear()
                self._size = 0
                self._writable.set()
                if not self._is_over:
                    self._readable.clear()
                yield data
            elif self._error is not None:
                raise self._error
            else:
                return
