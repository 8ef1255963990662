"""The runtime for plain handlers, as a real process, against the emulated Runtime API."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

import local.plain_runtime
from lambda_stream.testing import RuntimeApi
from local.function import Environment, Function
from local.gateway import Gateway
from local.plan import FunctionPlan
from local.process import ManagedProcess, Program, StartFailed
from local.process_group_guard import ProcessGroupGuard
from local.server import listen, port_of, serving

HANDLER = """
import json, os

def handler(event, context):
    if event["rawPath"] == "/f/raise":
        raise ValueError("as asked")
    if event["rawPath"] == "/f/odd":
        return {1, 2}
    return {
        "path": event["rawPath"],
        "request": context.aws_request_id == event["requestContext"]["requestId"],
        "remaining": 0 < context.get_remaining_time_in_millis() <= 60_000,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "trace": os.environ["_X_AMZN_TRACE_ID"] == event["headers"]["x-amzn-trace-id"],
    }
"""

OURS = ("-P", local.plain_runtime.__file__)
AWS = ("-m", "awslambdaric", "app.handler")


@asynccontextmanager
async def function(folder, source, runtime=OURS):
    (folder / "app.py").write_text(source)
    plan = FunctionPlan("plain", folder, "app.handler", runtime, ("/f.*",), timeout_seconds=60, most=1)
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(ProcessGroupGuard())
        api, front = listen(), listen()
        environ = dict(os.environ) | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port_of(api)}",
            "AWS_LAMBDA_FUNCTION_NAME": "plain",
            "_HANDLER": "app.handler",
            "LAMBDA_TASK_ROOT": str(folder),
        }
        program = Program("plain", (sys.executable, *runtime), environ, folder, folder / "plain.log")
        one = Function(plan, lambda environment: None)
        environment = Environment(one, ManagedProcess(program, guard, print))
        await stack.enter_async_context(RuntimeApi(environment, api))
        await stack.enter_async_context(serving(Gateway([one], folder), [front], 75, 0))
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_of(front)}", timeout=30)
        yield await stack.enter_async_context(client), environment.managed


@asynccontextmanager
async def running(kept):
    task = asyncio.create_task(kept.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("runtime", [OURS, pytest.param(AWS, marks=pytest.mark.skipif("sys.platform != 'linux'"))])
async def test_a_handler_is_called_with_event_and_context_as_by_aws_own_runtime(tmp_path, runtime):
    async with function(tmp_path, HANDLER, runtime) as (client, kept), running(kept):
        for path in ("/f/1", "/f/2"):
            assert (await client.get(path)).json() == {
                "path": path,
                "request": True,
                "remaining": True,
                "arn": "arn:aws:lambda:local:000000000000:function:plain",
                "name": "plain",
                "trace": True,
            }


@pytest.mark.parametrize("path", ["/f/raise", "/f/odd"])
async def test_a_handler_that_fails_costs_one_request_and_not_the_process(tmp_path, path):
    async with function(tmp_path, HANDLER) as (client, kept), running(kept):
        assert (await client.get(path)).status_code == 502
        assert (await client.get("/f")).json()["path"] == "/f"
        assert kept.program.log.read_text().count("Traceback") == 1


@pytest.mark.parametrize("source", ["import nothing_of_this_name", "raise SystemExit(0)", "other = 1", "def"])
async def test_a_handler_that_cannot_be_loaded_is_reported_before_the_process_ends(tmp_path, source):
    async with function(tmp_path, source) as (_, kept):
        with pytest.raises(StartFailed, match=r"ended with code 1: (ModuleNotFound|Attribute|Syntax)?\w+:"):
            await kept.run()


def test_the_runtime_needs_nothing_but_the_standard_library():
    source = Path(local.plain_runtime.__file__).read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names
