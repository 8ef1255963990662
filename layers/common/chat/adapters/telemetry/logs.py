"""Log lines: one JSON object each on standard output, made by Powertools, with ids and without anybody's words."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from chat.log_context import ids
from chat.safe_errors import describe
from chat.settings import TelemetrySettings

PACKAGE = "chat"
LIBRARY_CHARACTERS = 200
"""The most that is kept of a library's message."""
_PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class StandardOutput(logging.StreamHandler[TextIO]):
    """Writes to what is standard output at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Lose the line: a log that cannot be written stops no answer, and what logging says then is not JSON."""


class JsonLines(LambdaPowertoolsFormatter):
    """Powertools' lines, with the ids of the running task, and errors told by kind and place.

    A library's message is cut to the begin of its first line, and what it attached is left out: asyncio quotes whole
    exceptions, database drivers whole statements with their values.
    """

    def __init__(self, service: str) -> None:
        super().__init__(
            datefmt="%Y-%m-%dT%H:%M:%S.%FZ",
            utc=True,
            json_serializer=_one_line,
            json_deserializer=str,  # a message that looks like JSON stays a string
            log_record_order=["level", "timestamp", "message", "logger"],
            service=service,
            location=None,
        )
        self._ours = (PACKAGE, service)

    def format(self, record: logging.LogRecord) -> str:
        is_ours = record.name.partition(".")[0] in self._ours
        message = record.getMessage()
        safe = logging.makeLogRecord(
            {
                "name": record.name,
                "levelno": record.levelno,
                "levelname": record.levelname,
                "created": record.created,
                "msecs": record.msecs,
                "msg": message if is_ours else message.partition("\n")[0][:LIBRARY_CHARACTERS],
                "logger": record.name,
                **ids(),
                **(_attached(record) if is_ours else {}),
                **_error(record),
            }
        )
        vars(safe).pop("taskName", None)
        return super().format(safe)


def _one_line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), default=str)


def _attached(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def _error(record: logging.LogRecord) -> dict[str, str]:
    error = record.exc_info[1] if record.exc_info else None
    return {"exception": describe(error), "exception_name": type(error).__name__} if error else {}


def log_everything(settings: TelemetrySettings) -> None:
    """Make all loggers of this process write such lines: ours from the set level on, libraries' from WARNING on.

    Replaces the handlers of the root logger, also those of Lambda's own runtime. Python's warnings become lines too.
    Called again it replaces nothing: Powertools has told the first handler which lines it writes itself.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, StandardOutput) for handler in root.handlers):
        handler = StandardOutput()
        handler.setFormatter(JsonLines(settings.service))
        root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(PACKAGE).setLevel(settings.level)
    logging.captureWarnings(True)


def event_logger(settings: TelemetrySettings) -> Logger:
    """Return the logger of the journal; its lines carry metrics, so that the set level does not silence them."""
    handler = StandardOutput()
    formatter = JsonLines(settings.service)
    return Logger(settings.service, "INFO", logger_handler=handler, logger_formatter=formatter)
