"""What this package itself has to say: lines of JSON on standard error, with the names that Lambda's runtimes use."""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any


def write(
    level: str,
    message: str,
    request_id: str | None = None,
    error: BaseException | None = None,
    details: str = "",
) -> None:
    """Write one record; with `error` its type and where it came from too, or else `details` as the traceback.

    Never an error's own words: an application's may quote what its users wrote.
    """
    record: dict[str, Any] = {
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": level,
        "message": message,
        "logger": "lambda_stream",
    }
    if request_id is not None:
        record["requestId"] = request_id
    if error is not None:
        record["errorType"] = type(error).__name__
        details = _places(error)
    if details:
        record["stackTrace"] = details.splitlines()
    sys.stderr.write(json.dumps(record, ensure_ascii=False) + "\n")
    sys.stderr.flush()


def _places(error: BaseException) -> str:
    """Return the tracebacks of `error` and of what led to it, the latter first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = _places(cause) if cause is not None else ""
    return f"{before}{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
