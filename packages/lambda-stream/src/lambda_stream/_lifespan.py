"""The application's life: ASGI lifespan startup once at init, shutdown once at the end.

Source: ASGI 3.0, "Lifespan protocol", version 2.0: an application that raises instead of answering has no lifespan.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lambda_stream._errors import InitError
from lambda_stream._handler import Application, Message
from lambda_stream._log import logger


class Lifespan:
    """One application's lifespan; `state` is what the application put there."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] | None = None
        self._has_answered = False

    async def startup(self) -> None:
        """Start the application.

        Raises:
            InitError: it says that it failed; the message is the last line of what it says.
        """
        reply = await self._ask("lifespan.startup")
        if reply["type"] == "lifespan.startup.failed":
            text = reply.get("message", "")
            raise InitError("Function.StartupFailed", _last_line(text), text)

    async def shutdown(self, timeout_seconds: float) -> None:
        """Stop the application, waiting for it within bounds."""
        if self._task is None or self._task.done():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                reply = await self._ask("lifespan.shutdown")
                await asyncio.wait({self._task})
        except TimeoutError:
            logger.error(f"the application did not shut down within {timeout_seconds:g} s")
            self._task.cancel()
        else:
            if reply["type"] == "lifespan.shutdown.failed":
                logger.error(f"shutdown failed: {_last_line(reply.get('message', ''))}")

    async def _ask(self, kind: str) -> Message:
        """Send a message and wait for its answer, or for the application to return without one."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._inbox.put_nowait({"type": kind})
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        either: set[asyncio.Future[Any]] = {self._task, answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else {"type": "none"}

    async def _take(self, message: Message) -> None:
        self._has_answered = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._application(scope, self._inbox.get, self._take)
        except Exception as error:  # the application is foreign; by ASGI, raising means that it has no lifespan
            if not self._has_answered:
                logger.info(f"the application has no lifespan: {type(error).__name__}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "The application's startup failed."
