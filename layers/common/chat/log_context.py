"""The ids of the request and the answer that the running task works on, for log lines written far below them.

A task hands its ids down to the tasks it starts; what serves many requests at once (a connection's task) inherits those
of the request that happened to start it, so lines about such a thing must not carry them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_IDS: ContextVar[Mapping[str, str]] = ContextVar("chat_trace", default=MappingProxyType({}))


def ids() -> Mapping[str, str]:
    """Return the ids by the names they have in the log."""
    return _IDS.get()


@contextmanager
def bind(**more: str) -> Iterator[None]:
    """Add ids to those that are there, until the end of the block."""
    token = _IDS.set({**_IDS.get(), **more})
    try:
        yield
    finally:
        _IDS.reset(token)
