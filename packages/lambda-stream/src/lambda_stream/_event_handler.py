"""Events that are no HTTP requests: a plain handler, `handler(event, context) -> result`, answers them in one piece.

Source: AWS Lambda developer guide, "Define Lambda function handler in Python".
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable
from typing import Any

from lambda_stream._cycle import STOPPING, TOO_LATE
from lambda_stream._errors import type_of
from lambda_stream._invocation import Context, Invocation
from lambda_stream._log import logger, of
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._trace import trace_id

Handler = Callable[[Any, Context], Any]


class EventHandler:
    """A plain handler: a coroutine function runs in the event loop, any other in a thread, so that streams go on."""

    def __init__(self, handler: Handler, api: RuntimeApi) -> None:
        self._handler = handler
        self._api = api

    async def serve(self, invocation: Invocation, event: Any, context: Context, stopping: asyncio.Future[None]) -> int:
        """Answer an invocation and return the status that the Runtime API gave to the answer.

        Raises:
            RuntimeApiError: the answer could not be delivered.
        """
        task = asyncio.create_task(self._call(event, context))
        seconds = context.deadline_ms / 1000 - time.time() - self._api.timeouts.deadline_margin
        either: set[asyncio.Future[Any]] = {task, stopping}
        await asyncio.wait(either, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            problem = STOPPING if stopping.done() else TOO_LATE
            logger.error(f"{problem.error_type}: {problem.detail}", extra=of(context.aws_request_id))
            return await self._api.report_error(invocation, problem.error_type, problem.detail)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the handler failed", exc_info=error, extra=of(context.aws_request_id))
            return await self._api.report_error(invocation, type_of(error), "The handler failed.")
        return await self._api.respond(invocation, task.result())

    async def _call(self, event: Any, context: Context) -> bytes:
        """Return the result as JSON."""
        trace_id.set(context.trace_id)
        if inspect.iscoroutinefunction(self._handler):
            result = await self._handler(event, context)
        else:
            result = await asyncio.to_thread(self._handler, event, context)
        return json.dumps(result).encode()
