"""The response that streams an answer: work that delivers events, beside a writer that sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chat.application.deps import Deliver
from chat.http.sse import HEADERS
from chat.http.sse_writer import SseWriter

Run = Callable[[Deliver], Awaitable[None]]


class EventStreamResponse(Response):
    """Runs `run` and streams what it delivers; ends when both the work and the client are done.

    Work that `must_finish` goes on when the client has gone, and the response waits for it: nothing outlives it. Other
    work is stopped then, and also after `seconds`, when a client that comes back can go on where it was.
    """

    def __init__(
        self, run: Run, message_id: str, heartbeat_seconds: float, must_finish: bool, seconds: float | None = None
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._run = run
        self._writer = SseWriter(message_id, heartbeat_seconds)
        self._must_finish = must_finish
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
                await self._run(self._writer.enqueue)
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
