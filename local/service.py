"""Brings everything up in order, and down again whatever happens."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lambda_stream.testing import RuntimeApi
from local import programs, stores
from local.function import Environment, Function
from local.gateway import Gateway
from local.health import is_redis_reachable
from local.notices import reporting_notices
from local.plan import FunctionPlan, Plan
from local.process import ManagedProcess, StartFailed, all_ready, run_once
from local.process_group_guard import ProcessGroupGuard
from local.server import LOOPBACK, listen, port_of, serving
from local.sign_in import NoSignIn, discover
from local.supervisor import Supervisor, supervise

_IDLE_SECONDS = 75
_GRACE_SECONDS = 1
_RETENTION_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Terminal:
    """How the service talks with whoever started it."""

    announce: Callable[[], None]
    """Called once, when everything is ready."""
    report: Callable[[str], None]
    """Hears what went wrong and was mended, in one line each."""


async def serve(plan: Plan, listener: socket.socket, terminal: Terminal) -> None:
    """Serve on `listener` until cancelled; afterwards nothing is left running.

    Raises:
        StartFailed: something does not start, or dies for good.
    """
    with _alone(plan.state), _logging_to(programs.log_of(plan, "gateway")), ProcessGroupGuard() as guard:
        try:
            await _serve(plan, listener, terminal, guard)
        except BaseExceptionGroup as failures:
            raise _start_failed(failures) or failures from None


async def _serve(plan: Plan, listener: socket.socket, terminal: Terminal, guard: ProcessGroupGuard) -> None:
    async with AsyncExitStack() as stack:
        backing = await stack.enter_async_context(supervise(guard, terminal.report))
        settings = await _start_backing(plan, stack, backing, guard)
        # The functions are left before the servers, so that their last words still reach the clients.
        servers = await stack.enter_async_context(AsyncExitStack())
        workers = await stack.enter_async_context(supervise(guard, terminal.report))
        functions = [await _function(plan, one, settings, workers, servers) for one in plan.functions]
        await all_ready([environment.managed for one in functions for environment in one.start(1)])
        page_settings = {**plan.page_settings, **await _sign_in(plan, terminal)}
        gateway = Gateway(functions, Path(__file__).parent / "page", plan.hosts, page_settings)
        await servers.enter_async_context(serving(gateway, [listener], _IDLE_SECONDS, _GRACE_SECONDS))
        logs = [programs.log_of(plan, one.name) for one in plan.functions]
        await stack.enter_async_context(reporting_notices(logs, terminal.report))
        terminal.announce()
        for name in plan.unknown_names:
            terminal.report(f"{name} is no setting of this service")
        for one in functions:
            one.start(one.plan.least - 1)
        if plan.has_own_redis and not await is_redis_reachable(port_of(listener)):
            terminal.report(
                "Redis (REDIS_URL) does not answer: until it does, answers stream without it and a cancel says 503"
            )
        await _keep_retention(plan, settings, terminal, guard)


async def _sign_in(plan: Plan, terminal: Terminal) -> dict[str, object]:
    """Return what the page's settings say of the sign-in."""
    if plan.sign_in is None:
        return {}
    try:
        return {"signIn": await discover(*plan.sign_in)}
    except NoSignIn as error:
        terminal.report(f"CHAT_PAGE_CLIENT_ID: {error}; the page asks for a token instead")
        return {}


async def _start_backing(
    plan: Plan, stack: AsyncExitStack, backing: Supervisor, guard: ProcessGroupGuard
) -> dict[str, str]:
    """Start stores and AI where the environment names none; return the settings that lead to them."""
    settings: dict[str, str] = {}
    started: list[ManagedProcess] = []
    if not plan.has_own_redis:
        port = stores.free_port()
        settings["REDIS_URL"] = f"redis://{LOOPBACK}:{port}/0"
        started.append(backing.add(programs.valkey(plan, port)))
    if not plan.has_own_ai:
        listener = stack.enter_context(closing(listen()))
        settings |= programs.demo_settings(listener)
        started.append(backing.add(programs.demo(plan, listener)))
    for managed in started:
        backing.start(managed)
    mysql_url = plan.environ["MYSQL_URL"] if plan.has_own_mysql else stores.sqlite_url(plan.state)
    await run_once(programs.migrations(plan, mysql_url), guard)
    await all_ready(started)
    return settings | {"MYSQL_URL": mysql_url}


async def _keep_retention(
    plan: Plan, settings: Mapping[str, str], terminal: Terminal, guard: ProcessGroupGuard
) -> None:
    """Delete old chats once an hour, as EventBridge has it done on AWS; for ever."""
    while plan.settings.retention_days:
        try:
            await run_once(programs.retention(plan, settings), guard)
        except StartFailed as error:
            terminal.report(str(error))
        await asyncio.sleep(_RETENTION_SECONDS)
    await asyncio.get_running_loop().create_future()


async def _function(
    plan: Plan, one: FunctionPlan, settings: Mapping[str, str], workers: Supervisor, servers: AsyncExitStack
) -> Function:
    """Return a function with all processes that it may have, each at a Runtime API of its own; none is started."""
    function = Function(one, lambda environment: workers.start(environment.managed))
    for number in range(one.most):
        listener = listen()
        managed = workers.add(programs.function(plan, one, settings, listener), is_essential=number == 0)
        await servers.enter_async_context(RuntimeApi(Environment(function, managed), listener))
    return function


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the folder for this service alone: a second one would write the same files beside another Valkey.

    Raises:
        StartFailed: another one is running in it.
    """
    (state / "logs").mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)  # also a folder that an earlier version made
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = "make run ARGS='--state FOLDER'"
            raise StartFailed(f"another one is already running in {state}; choose another folder: {other}") from None
        for log in (state / "logs").glob("*.log"):
            log.unlink()
        yield


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Keep what libraries in this process have to say away from the terminal."""
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _start_failed(failures: BaseExceptionGroup[BaseException]) -> StartFailed | None:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            failure = _start_failed(failure) or failure
        if isinstance(failure, StartFailed):
            return failure
    return None
