"""`lambda_stream` as a real process under AWS's runtime interface emulator, in both of its modes.

The emulator collects a response before it hands it on, so that deltas arrive one by one is shown in
`packages/lambda-stream/tests/test_asgi.py`; and the deadline it announces with a concurrency lies years ahead, so that
deadlines are kept is shown in `packages/lambda-stream/tests/test_worker_pool.py`.
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.events import load_event
from tests.kit.rie import RieUnavailable, rie_binary, running_rie, why_not_here
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e

SOURCE = Path(__file__).parents[2] / "packages" / "lambda-stream" / "src"
WRAPPER = SOURCE / "lambda_stream" / "bootstrap"
THROUGH_WRAPPER = (str(WRAPPER), sys.executable, "/var/runtime/bootstrap.py")
DIRECTLY = (sys.executable, "-m", "lambda_stream")

APP = """
import asyncio, json, os, sys
from pathlib import Path

waiting = 0
everyone = asyncio.Event()

async def app(scope, receive, send):
    global waiting
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("FAIL") == "startup":
            await send({"type": "lifespan.startup.failed", "message": "SettingsError: REDIS_URL is not set"})
            return
        scope["state"]["pid"] = os.getpid()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/raises":
        raise ValueError("not to be seen")
    if path == "/exits":
        os._exit(3)
    headers = [(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({"type": "http.response.start", "status": 204 if path == "/empty" else 200, "headers": headers})
    if path == "/empty":
        return
    if path == "/together":
        waiting += 1
        if waiting == int(os.environ["AWS_LAMBDA_MAX_CONCURRENCY"]):
            everyone.set()
        await everyone.wait()
    context = scope["aws.context"]
    seen = {
        "pid": scope["state"]["pid"],
        "body": (await receive())["body"].decode(),
        "requestId": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "trace": context.trace_id,
        "interpreter": sys.executable,
    }
    await send({"type": "http.response.body", "body": json.dumps(seen).encode(), "more_body": True})
    if path == "/raises-late":
        raise ValueError("not to be seen")
    if path == "/large":
        for _ in range(20):
            await send({"type": "http.response.body", "body": b"x" * 250_000, "more_body": True})
    await send({"type": "http.response.body"})
"""


@pytest.fixture(scope="module", autouse=True)
def emulator():
    if reason := why_not_here():
        pytest.skip(reason)
    try:
        return rie_binary()
    except RieUnavailable as error:
        pytest.fail(f"AWS's runtime interface emulator is needed here: {error}")


@asynccontextmanager
async def function(tmp_path, command=THROUGH_WRAPPER, concurrency=None, **environ):
    task_root = tmp_path / "task"
    task_root.mkdir()
    (task_root / "app.py").write_text(APP)
    own = {"_HANDLER": "app.app"} | ({"PYTHONPATH": str(SOURCE)} if command is DIRECTLY else {}) | environ
    async with running_rie(command, task_root, own, tmp_path / "log", concurrency) as rie:
        if concurrency:
            await until(lambda: ready(rie), "all slots poll", seconds=30)
        yield rie


async def ready(rie):
    return (await rie.invoke(load_event("health"))).status_code == 200


@pytest.fixture(params=["standard", "concurrent"])
def concurrency(request):
    if request.param == "standard":
        return None
    if reason := why_not_here(concurrency=True):
        pytest.fail(reason) if os.environ.get("PROMISED_SERVERS") else pytest.skip(reason)
    return 4


def parts(response):
    """Split what a Function URL would have turned into an HTTP response."""
    prelude, _, body = response.content.partition(bytes(8))
    return json.loads(prelude), body


@pytest.mark.parametrize("command", [THROUGH_WRAPPER, DIRECTLY], ids=["wrapper", "module"])
async def test_a_function_streams_its_response(tmp_path, command, concurrency):
    async with function(tmp_path, command, concurrency) as rie:
        event, trace = load_event("stream_chat"), "Root=1-5759e988-bd862e3fe1be46a994272793"
        prelude, body = parts(await rie.invoke(event, **{"X-Amzn-Trace-Id": trace}))
        assert prelude == {
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "cookies": ["a=1", "b=2"],
        }
        seen = json.loads(body)
        assert seen["body"] == event["body"]
        assert seen["requestId"]
        assert seen["remaining"] > 0
        assert seen["arn"].startswith("arn:aws:lambda:us-east-1:")
        assert seen["interpreter"] == sys.executable
        assert seen["trace"] == (trace if concurrency else None)  # without, the emulator keeps it to itself


async def test_invocations_follow_one_another_in_one_process_whatever_they_do(tmp_path, concurrency):
    async with function(tmp_path, concurrency=concurrency) as rie:
        pids = set()
        for _ in range(3):
            _, body = parts(await rie.invoke(load_event("health")))
            pids.add(json.loads(body)["pid"])

            prelude, body = parts(await rie.invoke(load_event("health", path="/raises")))
            assert prelude["statusCode"] == 500
            assert json.loads(body)["code"] == "internal_error"

            late = await rie.invoke(load_event("health", path="/raises-late"))
            if concurrency:  # only there does the emulator look at trailers
                assert late.headers["error-type"] == "Function.ValueError"
                assert late.json()["errorMessage"] == "The function failed."
            else:
                assert json.loads(parts(late)[1])["body"] == ""

            prelude, body = parts(await rie.invoke(load_event("health", path="/empty")))
            assert (prelude["statusCode"], body) == (204, b"")

            refused = await rie.invoke(load_event("other_sqs"))
            assert refused.json()["errorType"] == "Runtime.UnsupportedEvent"
        assert len(pids) == 1
        assert "not to be seen" in rie.log, "the log has the traceback"


async def test_a_response_of_megabytes_arrives_whole(tmp_path, concurrency):
    async with function(tmp_path, concurrency=concurrency) as rie:
        _, body = parts(await rie.invoke(load_event("health", path="/large")))
        assert body.endswith(b"x" * 5_000_000)


async def test_as_many_run_at_once_as_the_concurrency_says_in_one_process(tmp_path):
    if reason := why_not_here(concurrency=True):
        pytest.fail(reason) if os.environ.get("PROMISED_SERVERS") else pytest.skip(reason)
    async with function(tmp_path, concurrency=16) as rie:
        event = load_event("health", path="/together")

        async def together():
            """Answered only if sixteen are in the application at the same time; a slot may not poll yet."""
            while (response := await rie.invoke(event)).status_code != 200:
                pass
            return json.loads(parts(response)[1])

        answers = await asyncio.gather(*(together() for _ in range(16)))
        assert len({answer["requestId"] for answer in answers}) == 16
        assert len({answer["pid"] for answer in answers}) == 1


async def test_a_function_that_cannot_start_says_why(tmp_path):
    async with function(tmp_path, FAIL="startup") as rie:
        response = await rie.invoke(load_event("health"))
        assert "Function.StartupFailed" in response.text or "Function.StartupFailed" in rie.log
        assert "init failed: Function.StartupFailed: SettingsError: REDIS_URL is not set" in rie.log


async def test_a_function_that_dies_is_started_again(tmp_path):
    async with function(tmp_path) as rie:
        await rie.invoke(load_event("health", path="/exits"))
        await until(lambda: ready(rie), "the next invocation finds a new process")
