"""One answer as the client sees it: when it was asked for, when each delta came, when it ended."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

from lambda_stream.testing import ErrorReport, Invocation, RuntimeApi

_STAMP = re.compile(rb'"(?:content|delta)\\?":\s*\\?"([0-9a-f]{16}) ')
_THOUGHT = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{16}) ")


class Ask:
    """Takes the bytes of one response as they come."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.began_ns = time.monotonic_ns()
        self.first: asyncio.Future[int] = loop.create_future()
        """When the first delta came."""
        self.thought_ns = 0
        """How long the AI took from the question to the first delta, by its own clock."""
        self.ended: asyncio.Future[None] = loop.create_future()
        self.delays_ns: list[int] = []
        """How long each delta was on its way from the AI; only while `is_timed`."""
        self.deltas = 0
        self.is_timed = False
        self.head = b""
        """What came before the first delta."""

    def take(self, data: bytes) -> None:
        """Note what has come."""
        if self.first.done() and not self.is_timed:
            return
        now = time.monotonic_ns()
        stamps = _STAMP.findall(data)
        if not self.first.done():
            self.head += data
            if found := _THOUGHT.search(self.head):
                self.thought_ns = int(found[1], 16) - int(found[2], 16)
                self.first.set_result(now)
        if self.is_timed:
            self.delays_ns.extend([now - int(stamp, 16) for stamp in stamps])
            self.deltas += len(stamps)

    def end(self, error: Exception | None = None) -> None:
        """Note the end."""
        if not self.ended.done():
            self.ended.set_result(None)
        if not self.first.done():
            self.first.set_exception(error or RuntimeError(f"no delta came: {self.head[:300]!r}"))
            self.first.exception()  # seen, where nobody waits for it


class Asked(Invocation):
    """An invocation of which nothing is kept but what `Ask` notes."""

    def __init__(self, event: object, ask: Ask) -> None:
        super().__init__(event, deadline_ms=int(time.time() * 1000) + 300_000)
        self._ask = ask

    def on_chunk(self, data: bytes) -> None:
        self._ask.take(data)

    def on_complete(self, trailers: Mapping[str, str]) -> None:
        self._ask.end()

    def on_error(self, headers: Mapping[str, str], report: ErrorReport) -> None:
        self._ask.end(RuntimeError(f"{report.error_type}: {report.message}"))

    def on_broken(self) -> None:
        self._ask.end()


def invoke(api: RuntimeApi, event: object) -> Ask:
    """Hand a function an invocation."""
    ask = Ask()
    api.submit(Asked(event, ask))
    return ask
