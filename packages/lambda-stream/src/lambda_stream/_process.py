"""A process from its start to its exit code: signals, init, slots, shutdown."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambda_stream._errors import InitError, RestoreError, RuntimeApiError
from lambda_stream._event_handler import EventHandler
from lambda_stream._extension import ShutdownExtension
from lambda_stream._handler import Application, load, load_named
from lambda_stream._invocation_handler import InvocationHandler
from lambda_stream._lifespan import Lifespan
from lambda_stream._log import configure, logger
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._settings import Settings, Timeouts, read_address, read_settings
from lambda_stream._snapshot import pass_through_snapshot
from lambda_stream._worker_pool import WorkerPool

GC_THRESHOLDS = (10_000, 5, 20)
"""For `gc.set_threshold`. With Python's own (700, 10, 10) it took a tenth of the CPU of 200 streams."""


async def run(environ: Mapping[str, str], timeouts: Timeouts | None = None) -> int:
    """Run the application that the environment names until SIGTERM or SIGINT; return the exit code."""
    return await run_at(RuntimeApi, environ, timeouts or Timeouts())


async def run_at(
    runtime_api: Callable[[str, int, Timeouts], RuntimeApi], environ: Mapping[str, str], timeouts: Timeouts
) -> int:
    """Run it, speaking through what `runtime_api` makes."""
    configure()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_stray)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        api = runtime_api(*read_address(environ), timeouts)
    except InitError as error:
        _log_start("init", error)
        return 1
    return await _live(environ, api, stop)


async def _live(environ: Mapping[str, str], api: RuntimeApi, stop: asyncio.Event) -> int:
    extension = ShutdownExtension(api)
    try:
        return await _init_and_serve(environ, api, stop, extension)
    finally:
        await extension.stop()


async def _init_and_serve(
    environ: Mapping[str, str], api: RuntimeApi, stop: asyncio.Event, extension: ShutdownExtension
) -> int:
    try:
        settings = read_settings(environ)
        application, events, lifespan = await _init(settings, api, stop, extension)
    except InitError as error:
        _log_start("init", error)
        await _report(api.report_init_error, error)
        return 1
    except RestoreError as error:
        _log_start("restore", error)
        await _report(api.report_restore_error, error)
        return 1
    if lifespan is None:
        return 0
    try:
        service = InvocationHandler(application, lifespan.state, api, settings.function, events)
        is_wanted = await WorkerPool(service, api, settings.concurrency).run(stop)
    finally:
        await lifespan.shutdown(api.timeouts.shutdown)
    return 0 if is_wanted else 1


async def _init(
    settings: Settings, api: RuntimeApi, stop: asyncio.Event, extension: ShutdownExtension
) -> tuple[Application, EventHandler | None, Lifespan | None]:
    """Return application, event handler and started lifespan; no lifespan when the process was told to stop meanwhile.

    Raises:
        InitError: it cannot be started.
        RestoreError: it cannot go on after a snapshot.
    """
    with _kept_for_life():
        application = load(settings.handler, settings.task_root)
        events = _event_handler(settings, api)
        lifespan = Lifespan(application)
        extension.start()  # it registers while the application starts
        is_stopped = not await _unless(stop, lifespan.startup())
        await extension.settled()
    if settings.is_snapshotted and not is_stopped:
        passing = asyncio.ensure_future(pass_through_snapshot(api, application, lifespan))
        is_stopped = not await _unless(stop, passing)
        lifespan = lifespan if is_stopped else passing.result()
    return application, events, None if is_stopped else lifespan


def _event_handler(settings: Settings, api: RuntimeApi) -> EventHandler | None:
    if not settings.event_handler:
        return None
    return EventHandler(load_named("LAMBDA_STREAM_EVENT_HANDLER", settings.event_handler, settings.task_root), api)


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


async def _unless(stop: asyncio.Event, startup: Awaitable[Any]) -> bool:
    """Run the startup to its end, or give it up when the process is told to stop meanwhile; tell which."""
    started, stopped = asyncio.ensure_future(startup), asyncio.ensure_future(stop.wait())
    await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not started.done():
        started.cancel()
        return False
    await started
    return True


async def _report(report: Callable[[str, str], Awaitable[int]], error: InitError | RestoreError) -> None:
    try:
        await report(error.error_type, error.message)
    except RuntimeApiError as unheard:
        logger.error(f"{error.error_type} not reported: {unheard}")


def _log_start(stage: str, error: InitError | RestoreError) -> None:
    message = f"{stage} failed: {error.error_type}: {error.message}"
    logger.error(message, exc_info=error.__cause__, extra={"details": error.details})


def _log_stray(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.error(str(context.get("message")), exc_info=context.get("exception"))
