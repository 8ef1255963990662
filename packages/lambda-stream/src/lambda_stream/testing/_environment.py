"""One execution environment as its Runtime API sees it: where invocations come from, and which of them it works on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, Protocol
from weakref import WeakValueDictionary

from lambda_stream.testing._invocation import ErrorReport, Invocation

Stage = Literal["init", "restore"]


class Environment(Protocol):
    """Implement it to decide where invocations come from; `RuntimeApi` speaks HTTP for it."""

    def ask(self) -> asyncio.Future[Invocation]:
        """Ask for the next invocation; cancelling the future asks no more. One that is cancelled ends the process."""

    def give_back(self, invocation: Invocation) -> None:
        """Take back what was asked for but not handed out."""

    def take(self, invocation: Invocation) -> bool:
        """Say that it is being handed out. False when the environment has ended; it is then given back."""

    def find(self, request_id: str) -> Invocation | None:
        """Return what the environment works on, or has worked on."""

    def finish(self, invocation: Invocation) -> None:
        """It is answered, or its answer has broken off."""

    def failed(self, stage: Stage, report: ErrorReport) -> None:
        """The function says that it cannot start, or go on from a snapshot."""


class InvocationQueue:
    """The environment of a test: invocations in the order in which they were made."""

    def __init__(self) -> None:
        self._waiting: deque[Invocation] = deque()
        self._asking: deque[asyncio.Future[Invocation]] = deque()
        self._running: dict[str, Invocation] = {}
        self._known: WeakValueDictionary[str, Invocation] = WeakValueDictionary()
        self.reports: list[tuple[Stage, ErrorReport]] = []

    def put(self, invocation: Invocation) -> None:
        """Have the next poll handed this."""
        self._known[invocation.request_id] = invocation
        while self._asking:
            asking = self._asking.popleft()
            if not asking.done():
                asking.set_result(invocation)
                return
        self._waiting.append(invocation)

    def ask(self) -> asyncio.Future[Invocation]:
        asking: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        if self._waiting:
            asking.set_result(self._waiting.popleft())
        else:
            self._asking.append(asking)
        return asking

    def give_back(self, invocation: Invocation) -> None:
        self._running.pop(invocation.request_id, None)
        self.put(invocation)

    def take(self, invocation: Invocation) -> bool:
        self._running[invocation.request_id] = invocation
        return True

    def find(self, request_id: str) -> Invocation | None:
        return self._known.get(request_id)

    def finish(self, invocation: Invocation) -> None:
        self._running.pop(invocation.request_id, None)

    def failed(self, stage: Stage, report: ErrorReport) -> None:
        self.reports.append((stage, report))
