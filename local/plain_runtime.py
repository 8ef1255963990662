"""A runtime for plain handlers, `handler(event, context) -> result`: what AWS's own Python runtime is on Lambda.

AWS publishes its as `awslambdaric`, for Linux only. This is a program of its own, in the function's process, and needs
nothing but the standard library.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPMessage
from typing import Any

_ROOT = "/2018-06-01/runtime"

Handler = Callable[[Any, "Context"], Any]


class Context:
    """What a handler is told of its invocation."""

    client_context = None
    identity = None

    def __init__(self, headers: HTTPMessage, environ: Mapping[str, str]) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the handler may still take."""
        return max(0, self._deadline_ms - int(time.time() * 1000))


class RuntimeApi:
    """The Runtime API on one connection that is kept."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address)

    def next(self) -> tuple[HTTPMessage, bytes]:
        """Wait, for as long as it takes, for an invocation; return its headers and event."""
        return self._call("GET", "/invocation/next")

    def respond(self, headers: HTTPMessage, result: bytes) -> None:
        """Hand in a result."""
        self._post(f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", result, _echo(headers))

    def fail(self, headers: HTTPMessage, error: Exception) -> None:
        """Report that the handler failed."""
        self._post(f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/error", _document(error), _echo(headers))

    def fail_init(self, error: BaseException) -> None:
        """Report that the handler cannot be loaded."""
        self._post("/init/error", _document(error), {})

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._call("POST", path, body, {"Content-Type": "application/json"} | headers)

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPMessage, bytes]:
        self._connection.request(method, _ROOT + path, body, headers or {})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 400:
            print(f"{method} {path} was refused with {response.status}", file=sys.stderr)
        return response.headers, content


def _echo(headers: HTTPMessage) -> dict[str, str]:
    name = "Lambda-Runtime-Invocation-Id"
    return {name: headers[name]} if name in headers else {}


def _document(error: BaseException) -> bytes:
    document = {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": []}
    return json.dumps(document).encode()


def load(handler: str, task_root: str) -> Handler:
    """Import `module.attribute` from the function's folder."""
    sys.path.insert(0, task_root)
    module, _, attribute = handler.rpartition(".")
    found: Handler = getattr(importlib.import_module(module), attribute)
    return found


def serve_one(api: RuntimeApi, handler: Handler) -> None:
    """Fetch one invocation and answer it."""
    headers, event = api.next()
    os.environ["_X_AMZN_TRACE_ID"] = headers.get("Lambda-Runtime-Trace-Id", "")
    try:
        result = json.dumps(handler(json.loads(event), Context(headers, os.environ))).encode()
    except Exception as error:  # the boundary of the function: whatever it raises is reported, and the next one served
        traceback.print_exc()
        api.fail(headers, error)
    else:
        api.respond(headers, result)


def main() -> None:
    """Serve until the process is ended."""
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = load(os.environ["_HANDLER"], os.environ["LAMBDA_TASK_ROOT"])
    except BaseException as error:  # a module may raise anything while it is imported; Lambda reports all of it
        traceback.print_exc()
        api.fail_init(error)
        sys.exit(1)
    while True:
        serve_one(api, handler)


if __name__ == "__main__":
    main()
