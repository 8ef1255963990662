"""One invocation as the Runtime API hands it out, and the context object that the application gets.

Pure but for the clock. Source: AWS Lambda developer guide, "Using the Lambda runtime API", next invocation, and
"Using the Lambda context object to retrieve Python function information".
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambda_stream._errors import InvalidInvocation, RuntimeApiError
from lambda_stream._settings import Function


@dataclass(frozen=True, slots=True)
class Context:
    """What `scope["aws.context"]` is; as far as it goes it looks like the managed runtime's context object."""

    aws_request_id: str
    deadline_ms: int
    """Milliseconds since the epoch."""
    invoked_function_arn: str
    trace_id: str | None
    tenant_id: str | None
    client_context: Any
    identity: Any
    function: Function

    @property
    def function_name(self) -> str:
        return self.function.name

    @property
    def function_version(self) -> str:
        return self.function.version

    @property
    def memory_limit_in_mb(self) -> str:
        return self.function.memory_limit_in_mb

    @property
    def log_group_name(self) -> str:
        return self.function.log_group_name

    @property
    def log_stream_name(self) -> str:
        return self.function.log_stream_name

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until the deadline, never below 0."""
        return max(0, self.deadline_ms - int(time.time() * 1000))


@dataclass(frozen=True, slots=True)
class Invocation:
    """What /next answered: ids as they came, everything else still to be read."""

    request_id: str
    invocation_id: str | None
    """To be echoed in `/response` and `/error` when present."""
    headers: Mapping[str, str]
    payload: bytes

    @property
    def trace_id(self) -> str | None:
        return self.headers.get("lambda-runtime-trace-id") or None

    def context(self, function: Function) -> Context:
        """Read the context object.

        Raises:
            InvalidInvocation: a header is missing or malformed.
        """
        try:
            return Context(
                aws_request_id=self.request_id,
                deadline_ms=int(self.headers["lambda-runtime-deadline-ms"]),
                invoked_function_arn=self.headers.get("lambda-runtime-invoked-function-arn", ""),
                trace_id=self.trace_id,
                tenant_id=self.headers.get("lambda-runtime-aws-tenant-id") or None,
                client_context=json.loads(self.headers.get("lambda-runtime-client-context") or "null"),
                identity=json.loads(self.headers.get("lambda-runtime-cognito-identity") or "null"),
                function=function,
            )
        except (KeyError, ValueError, RecursionError) as error:
            raise InvalidInvocation("Runtime.InvalidInvocation", "The invocation's headers are malformed.") from error

    def event(self) -> Any:
        """Decode the payload.

        Raises:
            InvalidInvocation: it is no JSON.
        """
        try:
            return json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise InvalidInvocation("Runtime.UnmarshalError", "The event is not JSON.") from error


def read_invocation(headers: Mapping[str, str], payload: bytes) -> Invocation:
    """Take an invocation from the headers (names in lower case) and the body of /next.

    Raises:
        RuntimeApiError: it has no request id, so that nothing can be answered.
    """
    request_id = headers.get("lambda-runtime-aws-request-id")
    if not request_id:
        raise RuntimeApiError("the Runtime API handed out an invocation without a request id")
    return Invocation(request_id, headers.get("lambda-runtime-invocation-id") or None, headers, payload)
