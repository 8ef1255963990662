"""Serving one invocation: the application runs in a task of its own until it returns, fails, or its time is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from lambda_stream._cycle import STOPPING, TOO_LATE, Problem, RequestResponseCycle
from lambda_stream._errors import ApplicationExit, InvalidInvocation, ResponseClosed, type_of
from lambda_stream._event import Answer, HttpRequest, http_request, shape
from lambda_stream._event_handler import EventHandler
from lambda_stream._handler import Application
from lambda_stream._invocation import Context, Invocation
from lambda_stream._log import logger, of
from lambda_stream._one_piece import OnePiece
from lambda_stream._response import ResponseStream
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._settings import Function
from lambda_stream._trace import trace_id


class InvocationHandler:
    """One application, serving any number of invocations, also at the same time."""

    def __init__(
        self,
        application: Application,
        state: Mapping[str, Any],
        api: RuntimeApi,
        function: Function | None = None,
        events: EventHandler | None = None,
    ) -> None:
        """`events` answers what is no HTTP request; without it such an event is an error."""
        self._application = application
        self._state = state
        self._api = api
        self._function = function or Function()
        self._events = events
        self._abandoned: set[asyncio.Task[None]] = set()

    async def serve(self, invocation: Invocation, stopping: asyncio.Future[None]) -> int:
        """Answer an invocation and return the status that the Runtime API gave to the answer.

        Once `stopping` is done, the application is cancelled and the response ended.

        Raises:
            ResponseClosed: the answer could not be delivered whole.
            RuntimeApiError: an error could not be reported.
        """
        try:
            context = invocation.context(self._function)
            event = invocation.event()
            request = http_request(event)
            if request is None and self._events is None:
                raise InvalidInvocation(
                    "Runtime.UnsupportedEvent", f"Only HTTP requests are served; this event is {shape(event)}."
                )
        except InvalidInvocation as error:
            logger.error(f"{error.error_type}: {error.message}", extra=of(invocation.request_id))
            return await self._api.report_error(invocation, error.error_type, error.message)
        if request is None:
            assert self._events is not None  # noqa: S101  # said above
            return await self._events.serve(invocation, event, context, stopping)
        request.scope.update({"state": dict(self._state), "aws.event": event, "aws.context": context})
        return await self._run_cycle(invocation, request, stopping)

    async def _run_cycle(self, invocation: Invocation, request: HttpRequest, stopping: asyncio.Future[None]) -> int:
        scope, body, answer = request
        stream = (
            ResponseStream(self._api, invocation)
            if answer is Answer.STREAMED
            else OnePiece(self._api, invocation, answer)
        )
        try:
            cycle = RequestResponseCycle(stream, scope["method"], body, invocation.request_id)
            scope["extensions"] = {"lambda_stream.write": {"write": cycle.write}}
            task = asyncio.create_task(self._run(scope, cycle))
            problem = await self._problem(task, cycle, scope["aws.context"], stopping)
            try:
                await cycle.end(problem)
            except ResponseClosed as error:
                logger.warning(f"the response could not be ended: {error}", extra=of(invocation.request_id))
            try:
                return await stream.settle()
            finally:  # also when the response is lost: the application may still be storing what there is
                await self._let_go(task, invocation.request_id)
        finally:
            stream.close()

    async def _run(self, scope: dict[str, Any], cycle: RequestResponseCycle) -> None:
        trace_id.set(scope["aws.context"].trace_id)
        try:
            await self._application(scope, cycle.receive, cycle.send)
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio lets only these out of a task, and so out of the loop: one request would cut off all others.
            raise ApplicationExit("the application asked the process to end") from error

    async def _problem(
        self, task: asyncio.Task[None], cycle: RequestResponseCycle, context: Context, stopping: asyncio.Future[None]
    ) -> Problem | None:
        """Wait for the application, cancel it when it must end, and say what is wrong, if anything."""
        timeouts = self._api.timeouts
        seconds = context.deadline_ms / 1000 - time.time() - timeouts.deadline_margin
        await asyncio.wait({task, stopping}, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return _outcome(task, cycle, context.aws_request_id)
        task.cancel()
        await asyncio.wait({task}, timeout=timeouts.unwind)
        problem = STOPPING if stopping.done() else TOO_LATE
        logger.error(f"{problem.error_type}: {problem.detail}", extra=of(context.aws_request_id))
        return problem

    async def _let_go(self, task: asyncio.Task[None], request_id: str) -> None:
        """See that the application's task ends with its invocation."""
        await asyncio.wait({task}, timeout=self._api.timeouts.grace)
        if not task.done():
            logger.error("the application ignores its cancellation; it is left behind", extra=of(request_id))
            self._abandoned.add(task)  # the loop itself would not keep it alive
            task.add_done_callback(self._abandoned.discard)
        elif not task.cancelled():
            task.exception()  # seen: reported as far as it mattered


def _outcome(task: asyncio.Task[None], cycle: RequestResponseCycle, request_id: str) -> Problem | None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if isinstance(error, OSError) and cycle.is_closed:
        logger.warning(f"the application stopped because its response was closed: {error}", extra=of(request_id))
        return None
    if error is not None:
        logger.error("the application failed", exc_info=error, extra=of(request_id))
        return Problem(500, "internal_error", "Internal error", "The function failed.", type_of(error))
    if not cycle.is_started:
        logger.error("the application returned without a response", extra=of(request_id))
        return Problem(500, "internal_error", "Internal error", "The function sent no response.", "Function.NoResponse")
    if not cycle.is_complete:
        logger.warning("the application returned without ending its response", extra=of(request_id))
    return None
