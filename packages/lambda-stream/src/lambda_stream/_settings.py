"""What the process is told: the Lambda runtime's environment variables, and the bounds of every wait.

Source: AWS Lambda developer guide, "Using the Lambda runtime API" and "Defined runtime environment variables".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lambda_stream._errors import InitError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long anything is waited for, in seconds."""

    connect: float = 5.0
    """For a connection to the Runtime API."""
    max_poll_failures: int = 5
    """Failed polls in a row after which the process ends."""
    deadline_margin: float = 0.25
    """How long before the deadline an invocation is ended here, so that the client hears it from us."""
    unwind: float = 0.1
    """For a cancelled application to send its own ending."""
    grace: float = 1.0
    """For a cancelled application to return, once the response has ended."""
    send_stall: float = 60.0
    """For a pending send of which not a byte is taken, before it fails."""
    stall: float = 5.0
    """The same after the application has finished."""
    reply: float = 60.0
    """For the Runtime API's answer once the whole response is handed over."""
    drain: float = 1.0
    """For running invocations after SIGTERM. An environment that ends on Lambda is idle, and killed after 0.5 s."""
    shutdown: float = 5.0
    """For the application's lifespan shutdown."""


@dataclass(frozen=True, slots=True)
class Function:
    """What the environment says of the function; the same for every invocation."""

    name: str = ""
    version: str = ""
    memory_limit_in_mb: str = ""
    log_group_name: str = ""
    log_stream_name: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the Runtime API is, what to run and how much of it at once."""

    host: str
    port: int
    handler: str
    task_root: str
    event_handler: str
    """Names what answers events that are no HTTP requests; empty for nothing."""
    concurrency: int
    is_snapshotted: bool
    """Whether a snapshot is taken at the end of init."""
    function: Function


def read_address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return host and port of the Runtime API.

    Raises:
        InitError: AWS_LAMBDA_RUNTIME_API is missing or is not host:port; there is nobody to report it to.
    """
    host, _, port = environ.get("AWS_LAMBDA_RUNTIME_API", "").rpartition(":")
    if not host or not port.isdecimal():
        raise InitError("Runtime.InvalidConfiguration", "AWS_LAMBDA_RUNTIME_API must be host:port")
    return host.strip("[]"), int(port)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read everything.

    Raises:
        InitError: a variable is missing or wrong; the message names it.
    """
    host, port = read_address(environ)
    function = Function(
        name=environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        version=environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        memory_limit_in_mb=environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", ""),
        log_group_name=environ.get("AWS_LAMBDA_LOG_GROUP_NAME", ""),
        log_stream_name=environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
    )
    return Settings(
        host=host,
        port=port,
        handler=environ.get("_HANDLER", ""),
        task_root=environ.get("LAMBDA_TASK_ROOT", ""),
        event_handler=environ.get("LAMBDA_STREAM_EVENT_HANDLER", ""),
        concurrency=_concurrency(environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "") or "1"),
        is_snapshotted=environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start",
        function=function,
    )


def _concurrency(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise InitError("Runtime.InvalidConfiguration", "AWS_LAMBDA_MAX_CONCURRENCY must be a whole number from 1")
    return int(text)
