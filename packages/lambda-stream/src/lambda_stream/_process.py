"""A process from its start to its exit code: signals, init, slots, shutdown."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambda_stream._errors import InitError, RuntimeApiError
from lambda_stream._handler import load
from lambda_stream._invocation_handler import InvocationHandler
from lambda_stream._lifespan import Lifespan
from lambda_stream._log import configure, logger
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._settings import Timeouts, read_address, read_settings
from lambda_stream._worker_pool import WorkerPool

GC_THRESHOLDS = (10_000, 5, 20)
"""For `gc.set_threshold`. With Python's own (700, 10, 10) it took a tenth of the CPU of 200 streams."""


async def run(environ: Mapping[str, str], timeouts: Timeouts | None = None) -> int:
    """Run the application that the environment names until SIGTERM or SIGINT; return the exit code."""
    configure()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_stray)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    timeouts = timeouts or Timeouts()
    try:
        api = RuntimeApi(*read_address(environ), timeouts)
    except InitError as error:
        _log_init(error)
        return 1
    return await _live(environ, api, stop)


async def _live(environ: Mapping[str, str], api: RuntimeApi, stop: asyncio.Event) -> int:
    try:
        settings = read_settings(environ)
        with _kept_for_life():
            application = load(settings.handler, settings.task_root)
            lifespan = Lifespan(application)
            if not await _unless(stop, lifespan.startup()):
                return 0
    except InitError as error:
        _log_init(error)
        await _report(api, error)
        return 1
    try:
        service = InvocationHandler(application, lifespan.state, api, settings.function)
        is_wanted = await WorkerPool(service, api, settings.concurrency).run(stop)
    finally:
        await lifespan.shutdown(api.timeouts.shutdown)
    return 0 if is_wanted else 1


@contextmanager
def _kept_for_life() -> Iterator[None]:
    """Take what the block makes, hundreds of thousands of objects, out of the garbage collector's sight.

    It would look at all of them again and again, while they are made and whenever streams have made many of their own,
    and each time hold up every stream for tens of milliseconds. What streams make and drop is freed by its reference
    counts; the few cycles among it can wait.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()


async def _unless(stop: asyncio.Event, startup: Any) -> bool:
    """Run the startup to its end, or give it up when the process is told to stop meanwhile."""
    started, stopped = asyncio.ensure_future(startup), asyncio.ensure_future(stop.wait())
    await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not started.done():
        started.cancel()
        return False
    await started
    return True


async def _report(api: RuntimeApi, error: InitError) -> None:
    try:
        await api.report_init_error(error.error_type, error.message)
    except RuntimeApiError as unheard:
        logger.error(f"init error not reported: {unheard}")


def _log_init(error: InitError) -> None:
    message = f"init failed: {error.error_type}: {error.message}"
    logger.error(message, exc_info=error.__cause__, extra={"details": error.details})


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.error(str(context.get("message")), exc_info=context.get("exception"))
