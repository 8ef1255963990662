"""The Lambda Runtime API in this process, for tests and local servers of any Lambda runtime. Standard library only.

    async with RuntimeApi() as api:
        ...                                   # start a function with AWS_LAMBDA_RUNTIME_API=api.address
        invocation = api.invoke(function_url_event("GET", "/"))
        await invocation.ended.wait()
        invocation.prelude["statusCode"], invocation.body

`FunctionProcess` starts `python -m lambda_stream` at it, `Snapshot` plays SnapStart by fork, and
`lambda_stream.testing.fixtures` has a fixture for pytest.
"""

from __future__ import annotations

from lambda_stream.testing._environment import Environment, Stage
from lambda_stream.testing._events import function_url_event
from lambda_stream.testing._invocation import ErrorReport, Invocation
from lambda_stream.testing._process import FunctionProcess
from lambda_stream.testing._server import Fault, RuntimeApi
from lambda_stream.testing._snapshot import NoSnapshot, Restored, Snapshot

__all__ = [
    "Environment",
    "ErrorReport",
    "Fault",
    "FunctionProcess",
    "Invocation",
    "NoSnapshot",
    "Restored",
    "RuntimeApi",
    "Snapshot",
    "Stage",
    "function_url_event",
]
