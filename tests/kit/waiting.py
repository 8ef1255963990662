"""Waiting for what nothing announces: polled until it holds or a deadline passes. The only sleeps in tests."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

T = TypeVar("T")

_INTERVAL_SECONDS = 0.01
_PATIENCE_SECONDS = 15.0


async def until(condition: Callable[[], T | Awaitable[T]], what: str = "", *, seconds: float = _PATIENCE_SECONDS) -> T:
    """Await the first truthy result of `condition`, a plain or an async callable, and return it.

    `seconds` catches hanging, not slowness. An exception of the condition passes through at once.

    Raises:
        AssertionError: it did not hold in time; names `what` and the last result.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        result: T = await found if inspect.isawaitable(found) else found
        if result:
            return result
        _check(deadline, what or repr(condition), result, seconds)
        await asyncio.sleep(_INTERVAL_SECONDS)


def until_sync(condition: Callable[[], T], what: str = "", *, seconds: float = _PATIENCE_SECONDS) -> T:
    """Do the same for code without an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        _check(deadline, what or repr(condition), result, seconds)
        time.sleep(_INTERVAL_SECONDS)


async def jitter(random: Random, most_seconds: float) -> None:
    """Let a random time pass, so that what comes next meets the rest at any moment. Nothing may depend on how long."""
    await asyncio.sleep(random.random() * most_seconds)


def _check(deadline: float, what: str, last: object, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"Not within {seconds:g} s: {what} (last: {last!r})")
