"""What this package itself logs: lines of JSON on standard error, with the names that Lambda's runtimes use.

The logger is `lambda_stream`. `configure` is called by whoever owns the process; without it the logger behaves like
any other.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("lambda_stream")


def of(request_id: str | None) -> dict[str, Any]:
    """Return the `extra` of a record that belongs to an invocation."""
    return {"request_id": request_id}


class JsonFormatter(logging.Formatter):
    """One line for each record, with the type and the place of an error.

    Never an error's own words: an application's may quote what its users wrote.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if (request_id := getattr(record, "request_id", None)) is not None:
            line["requestId"] = request_id
        details: str = getattr(record, "details", "")
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line["errorType"] = type(error).__name__
            details = places(error)
        if details:
            line["stackTrace"] = details.splitlines()
        return json.dumps(line, ensure_ascii=False)


class StderrHandler(logging.Handler):
    """Writes to standard error as it is at that moment, at once."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # as every handler of the standard library: what cannot be logged stops nothing
            self.handleError(record)


def configure() -> None:
    """Let the logger write JSON to standard error and nowhere else. Calling it again changes nothing."""
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        handler = StderrHandler()
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def places(error: BaseException) -> str:
    """Return the tracebacks of `error` and of what led to it, the latter first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = places(cause) if cause is not None else ""
    return f"{before}{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
