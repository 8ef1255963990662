"""The X-Ray trace header of each invocation."""

from __future__ import annotations

from contextvars import ContextVar

trace_id: ContextVar[str | None] = ContextVar("lambda_stream.trace_id", default=None)
"""The X-Ray trace header of the invocation that the current task belongs to; None outside of one."""
