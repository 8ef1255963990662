"""The trace that the running task belongs to, as the next service is told of it.

Source: W3C Trace Context, section 3.2 (`traceparent`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRACEPARENT: ContextVar[str | None] = ContextVar("chat_traceparent", default=None)


def traceparent() -> str | None:
    """Return the header's value for requests of this task; None where nothing is traced."""
    return _TRACEPARENT.get()


@contextmanager
def carry(traceparent: str | None) -> Iterator[None]:
    """Tell the next services of this trace, until the end of the block."""
    token = _TRACEPARENT.set(traceparent)
    try:
        yield
    finally:
        _TRACEPARENT.reset(token)
