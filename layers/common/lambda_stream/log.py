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
    """Write one record; with `error` its type, message and traceback too, or else `details` as the traceback."""
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
        record["errorMessage"] = str(error)
        details = "".join(traceback.format_exception(error))
    if details:
        record["stackTrace"] = details.splitlines()
    sys.stderr.write(json.dumps(record, ensure_ascii=False) + "\n")
    sys.stderr.flush()
