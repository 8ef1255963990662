"""The loop: as many slots as may run at once, each polling and serving one invocation after the other, in one process.

Rules of an invocation's end (see also `Service.serve`):
    answered 2xx                  go on
    answered 400, 403, 410, 413   log, go on
    answered 500                  the Runtime API wants this process to exit
    not answered whole            alone in the process: exit, because a Runtime API whose response was cut off hands
                                  out nothing any more; with others in the process: log, go on
"""

from __future__ import annotations

import asyncio
import os

from lambda_stream._errors import FatalRuntimeError, ResponseClosed, RuntimeApiError
from lambda_stream._invocation import Invocation
from lambda_stream._invocation_handler import InvocationHandler
from lambda_stream._log import logger, of
from lambda_stream._poller import InvocationPoller
from lambda_stream._runtime_api import RuntimeApi


class WorkerPool:
    """All slots of a process."""

    def __init__(self, service: InvocationHandler, api: RuntimeApi, concurrency: int) -> None:
        self._service = service
        self._api = api
        self._concurrency = concurrency
        self._idle: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Poll and serve until `stop` is set; return True then, False when the process had to end by itself.

        Once stopped, idle slots end at once, others get the drain time before their applications are cancelled.
        """
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slots = {asyncio.create_task(self._slot(ending)) for _ in range(self._concurrency)}
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({*slots, stopped}, return_when=asyncio.FIRST_COMPLETED)
            is_wanted = stopped.done()
            await self._stop(slots, ending)
        finally:
            for task in (stopped, *slots):
                task.cancel()
            await asyncio.gather(stopped, *slots, return_exceptions=True)
        return is_wanted

    async def _stop(self, slots: set[asyncio.Task[None]], ending: asyncio.Future[None]) -> None:
        self._is_stopping = True
        for slot in self._idle:
            slot.cancel()
        timeouts = self._api.timeouts
        await asyncio.wait(slots, timeout=timeouts.drain)
        ending.set_result(None)
        await asyncio.wait(slots, timeout=timeouts.unwind + timeouts.grace)

    async def _slot(self, ending: asyncio.Future[None]) -> None:
        poll = InvocationPoller(self._api)
        try:
            while not self._is_stopping:
                await self._step(poll, ending)
        except FatalRuntimeError as error:
            logger.critical(f"this process must end: {error}")
        except Exception as error:  # a defect in polling: said here, because nobody looks at this task's result
            logger.critical("lambda_stream failed while polling", exc_info=error)
        finally:
            poll.close()

    async def _step(self, poll: InvocationPoller, ending: asyncio.Future[None]) -> None:
        slot = asyncio.current_task()
        assert slot is not None  # noqa: S101  # only ever runs in a task
        self._idle.add(slot)
        try:
            head = await poll.head()
        finally:
            self._idle.discard(slot)
        invocation = await poll.invocation(head)
        if invocation is not None:
            await self._serve(invocation, ending)

    async def _serve(self, invocation: Invocation, ending: asyncio.Future[None]) -> None:
        if self._concurrency == 1:
            _set_trace_id(invocation.trace_id)
        try:
            status = await self._service.serve(invocation, ending)
        except (ResponseClosed, RuntimeApiError) as error:
            self._unanswered(invocation, error)
        except Exception as error:  # the last boundary: a defect in here must not take the other slots along
            logger.error("lambda_stream failed", exc_info=error, extra=of(invocation.request_id))
            self._unanswered(invocation, error)
        else:
            _judge(status, invocation.request_id)

    def _unanswered(self, invocation: Invocation, error: Exception) -> None:
        logger.error(f"not answered whole: {error}", extra=of(invocation.request_id))
        if self._concurrency == 1:
            raise FatalRuntimeError("an invocation was not answered whole") from error


def _judge(status: int, request_id: str) -> None:
    """Act on the Runtime API's answer to a response or an error report."""
    if status == 500:
        raise FatalRuntimeError("the Runtime API says that it cannot recover")
    if status == 410:
        logger.warning("answered too late: the invocation had already timed out", extra=of(request_id))
    elif not 200 <= status < 300:
        logger.error(f"the Runtime API refused the answer with {status}", extra=of(request_id))


def _set_trace_id(value: str | None) -> None:
    """Put the trace header where X-Ray's SDK looks for it; only sound with one invocation at a time."""
    if value is None:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    else:
        os.environ["_X_AMZN_TRACE_ID"] = value
