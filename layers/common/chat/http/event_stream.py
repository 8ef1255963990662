"""The response that streams an answer: work that delivers events, beside a writer that sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chat.application.deps import Deliver
from chat.http.sse import HEADERS, Encode
from chat.http.sse_writer import SseWriter


class Stream(Protocol):
    """What delivers an answer's events, and holds something as long as the response lasts."""

    async def run(self, deliver: Deliver) -> None:
        """Deliver everything."""
        ...

    async def close(self) -> None:
        """Let go of what is held; called exactly once, whether or not it has run."""
        ...


class EventStreamResponse(Response):
    """Runs `stream` and sends what it delivers; ends when both the work and the client are done.

    Work that `must_finish` goes on when the client has gone, and the response waits for it: nothing outlives it. Other
    work is stopped then, and also after `seconds`, when a client that comes back can go on where it was.
    """

    def __init__(
        self,
        stream: Stream,
        encode: Encode,
        heartbeat_seconds: float,
        must_finish: bool,
        seconds: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(headers={**HEADERS, **headers})
        del self.headers["content-length"]
        self._stream = stream
        self._writer = SseWriter(encode, heartbeat_seconds)
        self._must_finish = must_finish
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._respond(scope, send)
        finally:
            await self._stream.close()

    async def _respond(self, scope: Scope, send: Send) -> None:
        work = asyncio.create_task(self._work())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._writer.run(send, _write_of(scope))
            if self._must_finish:
                await asyncio.wait([work])
            else:
                work.cancel()
        except asyncio.CancelledError:
            work.cancel()
            raise
        except OSError:
            pass  # the client has gone before the first byte
        finally:
            if not self._must_finish:
                work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()
        with suppress(OSError):  # the client has gone
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _work(self) -> None:
        try:
            async with asyncio.timeout(self._seconds) as scope:
                await self._stream.run(self._writer.enqueue)
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._writer.close()


def _write_of(scope: Scope) -> Callable[[bytes], bool] | None:
    """Return what writes at once, where the server offers it as an ASGI extension (lambda_stream does)."""
    extension = (scope.get("extensions") or {}).get("lambda_stream.write", {})
    write: Callable[[bytes], bool] | None = extension.get("write")
    return write
