"""A function as Lambda sees it: requests in a queue, and processes that fetch them; more processes when it grows."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from chat.domain.errors import RateLimited
from chat.domain.model import new_id
from lambda_stream.testing import ErrorReport, Stage
from lambda_stream.testing import Invocation as Emulated
from local.function_url import LIMIT_BYTES, Request, to_event
from local.invocation import Invocation, InvocationFailed, TimedOut
from local.plan import FunctionPlan
from local.process import ManagedProcess

_OVERTIME_SECONDS = 5.0


class TooLarge(ValueError):
    """The event would be over Lambda's limit."""


class Function:
    """Hands each request to the first process that asks for one; starts another when requests have to wait."""

    def __init__(self, plan: FunctionPlan, start: Callable[[Environment], None]) -> None:
        self.plan = plan
        self.environments: list[Environment] = []
        """All processes that there may be."""
        self._start = start
        self._started = 0
        self._waiting: deque[Invocation] = deque()
        self._idle: deque[asyncio.Future[Emulated]] = deque()

    def start(self, count: int) -> Sequence[Environment]:
        """Start so many more processes, or as many as there may be, and return them."""
        begun = self.environments[self._started : self._started + count]
        self._started += len(begun)
        for environment in begun:
            self._start(environment)
        return begun

    def _start_another(self) -> None:
        if all(one.managed.ready.is_set() for one in self.environments[: self._started]):
            self.start(1)

    def invoke(self, request: Request) -> Invocation:
        """Put a request in the queue, and return what will carry its response.

        Raises:
            TooLarge: it is over the limit.
        """
        request_id, now = new_id(), time.time()
        trace_id = f"Root=1-{int(now):08x}-{secrets.token_hex(12)};Sampled=0"
        event = json.dumps(to_event(request, request_id, trace_id, now), ensure_ascii=False).encode()
        if len(event) > LIMIT_BYTES:
            raise TooLarge
        invocation = Invocation(request_id, event, trace_id, self.plan.arn)
        self._offer(invocation)
        return invocation

    def _offer(self, invocation: Invocation) -> None:
        while self._idle:
            asking = self._idle.popleft()
            if not asking.done():
                asking.set_result(invocation)
                return
        self._waiting.append(invocation)
        asyncio.get_running_loop().call_later(self.plan.queue_seconds, self._give_up, invocation)
        self._start_another()

    def _give_up(self, invocation: Invocation) -> None:
        if invocation in self._waiting:
            self._waiting.remove(invocation)
            invocation.fail(RateLimited("All processes of this function are busy.", retry_after_seconds=1))

    def ask(self) -> asyncio.Future[Emulated]:
        """Return what will hold the next request; cancel it to ask no more."""
        asking: asyncio.Future[Emulated] = asyncio.get_running_loop().create_future()
        if self._waiting:
            asking.set_result(self._waiting.popleft())
            if self._waiting:
                self._start_another()
        else:
            self._idle.append(asking)
        return asking

    def give_back(self, invocation: Invocation) -> None:
        """Take back a request that its process never received."""
        self._offer(invocation)


class Environment:
    """One process of a function: what it works on, and for how long it may."""

    def __init__(self, function: Function, managed: ManagedProcess) -> None:
        self.function = function
        self.managed = managed
        self._asking: set[asyncio.Future[Emulated]] = set()
        self._running: dict[str, tuple[Invocation, asyncio.TimerHandle]] = {}
        managed.on_death = self._died
        function.environments.append(self)

    def ask(self) -> asyncio.Future[Emulated]:
        """Ask for the next request on behalf of the process, which has thereby started up."""
        self.managed.ready.set()
        asking = self.function.ask()
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return asking

    def give_back(self, invocation: Emulated) -> None:
        """Take back a request that the process never received."""
        self.function.give_back(_ours(invocation))

    def take(self, invocation: Emulated) -> bool:
        """Start the clock for a request; False when the process has ended."""
        if not self.managed.is_running:
            return False
        invocation = _ours(invocation)
        seconds = self.function.plan.timeout_seconds
        timer = asyncio.get_running_loop().call_later(seconds, self._overdue, invocation)
        self._running[invocation.request_id] = invocation, timer
        invocation.deadline_ms = int((time.time() + seconds) * 1000)
        return True

    def find(self, request_id: str) -> Invocation | None:
        """Return the request of that id, when this process is working on it."""
        found = self._running.get(request_id)
        return found[0] if found else None

    def finish(self, invocation: Emulated) -> None:
        """Note that the process is done with a request."""
        _, timer = self._running.pop(invocation.request_id, (None, None))
        if timer is not None:
            timer.cancel()

    def failed(self, stage: Stage, report: ErrorReport) -> None:
        """Keep why the process says that it cannot start."""
        words = f"{report.error_type}: {report.message}".splitlines()[0][:300]
        self.managed.last_log_line = words if report.error_type else "it reported an error without saying which"

    def _overdue(self, invocation: Invocation) -> None:
        """Tell the client; a process with other requests gets the chance to end this one itself, as on Lambda."""
        invocation.fail(TimedOut())
        overtime = 0.0 if self.function.plan.concurrency == 1 else _OVERTIME_SECONDS
        timer = asyncio.get_running_loop().call_later(overtime, self.managed.kill)
        self._running[invocation.request_id] = invocation, timer

    def _died(self) -> None:
        for asking in list(self._asking):
            asking.cancel()
        for invocation, timer in list(self._running.values()):
            timer.cancel()
            invocation.fail(InvocationFailed("The function's process ended before it had answered."))
        self._running.clear()


def _ours(invocation: Emulated) -> Invocation:
    assert isinstance(invocation, Invocation)  # noqa: S101  # the Runtime API hands out what `ask` gave it
    return invocation
