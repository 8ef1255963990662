"""`python -m lambda_stream` as a real process: environment, init, signals, exit codes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from lambda_stream._errors import InitError, type_of
from lambda_stream._settings import read_settings
from lambda_stream.testing import FunctionProcess, RuntimeApi
from tests.kit.events import load_event
from tests.kit.waiting import until

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[1] / "src"
WRAPPER = SOURCE / "lambda_stream" / "bootstrap"

APP = """
import os, sys
from contextlib import asynccontextmanager

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("starting")
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("stopped")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    text = f"{scope['state']['greeting']} {os.environ.get('_X_AMZN_TRACE_ID')} {sys.path}"
    await send({"type": "http.response.body", "body": text.encode()})

nothing = None
text = "text"
"""


def process(api, task_root, *, handler="app.app", command=(sys.executable, "-m", "lambda_stream"), **environ):
    """Start it as Lambda does; it is killed at the end if it is still there."""
    return FunctionProcess(handler, task_root, environ, command).running(api)


@pytest.fixture
def task_root(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "mod.py").write_text(APP)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "failing.py").write_text("class Bad_Thing2(Exception): pass\nraise Bad_Thing2('not today')")
    (tmp_path / "needy.py").write_text("import no_such_module")
    (tmp_path / "unlucky.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    message = 'Traceback\\n  x\\nSettingsError: A is not set'\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': message})\n"
    )
    return tmp_path


@pytest.mark.parametrize("handler", ["app.app", "pkg/mod.app", "pkg.mod.app"])
async def test_it_serves_the_named_application_and_stops_on_sigterm(task_root, handler):
    async with RuntimeApi() as api, process(api, task_root, handler=handler) as running:
        handed = api.invoke(load_event("health"))
        await until(handed.ended.is_set)
        assert handed.body.startswith(f"hello Root=1-{handed.request_id[:8]} ['{task_root}'".encode())
        running.send_signal(signal.SIGTERM)
        out, err = await running.communicate()
        assert (running.returncode, out, err) == (0, b"starting\nstopped\n", b"")


async def test_output_is_not_held_back(task_root):
    async with RuntimeApi() as api, process(api, task_root) as running:
        assert await running.stdout.readline() == b"starting\n"


async def test_ctrl_c_is_a_normal_end(task_root):
    async with RuntimeApi() as api, process(api, task_root) as running:
        await until(lambda: api.waiting == 1)
        running.send_signal(signal.SIGINT)
        out, err = await running.communicate()
        assert (running.returncode, out, err) == (0, b"starting\nstopped\n", b"")


async def test_a_running_stream_is_ended_properly_on_sigterm(task_root):
    (task_root / "endless.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await asyncio.Event().wait()\n"
    )
    async with RuntimeApi() as api, process(api, task_root, handler="endless.app") as running:
        handed = api.invoke(load_event("health"))
        await until(handed.begun.is_set)
        running.send_signal(signal.SIGTERM)
        await until(handed.ended.is_set)
        assert handed.trailers["lambda-runtime-function-error-type"] == "Runtime.ShuttingDown"
        await running.communicate()
        assert running.returncode == 0


STUBBORN = {
    "task": (
        "    while True:\n"
        "        try:\n"
        "            await asyncio.Event().wait()\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    ),
    "thread": "    await asyncio.to_thread(threading.Event().wait)\n",
}


@pytest.mark.parametrize("stubborn", STUBBORN.values(), ids=STUBBORN.keys())
@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 0), ("the Runtime API", 1)])
async def test_the_process_ends_although_something_in_the_application_does_not(task_root, stubborn, by, code):
    (task_root / "stubborn.py").write_text(
        "import asyncio, threading\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    if scope['path'] == '/health': return\n"
        f"{stubborn}"
    )
    environ = {"handler": "stubborn.app", "AWS_LAMBDA_MAX_CONCURRENCY": "2"}
    async with RuntimeApi() as api, process(api, task_root, **environ) as running:
        await until(api.invoke(load_event("stream_chat")).begun.is_set)
        if by == "SIGTERM":
            running.send_signal(signal.SIGTERM)
        else:
            api.invoke(load_event("health"), status=500)
        async with asyncio.timeout(30):
            _, err = await running.communicate()
        assert running.returncode == code
        assert b"does not end" in err


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "asyncio.CancelledError"])
async def test_whatever_one_request_raises_the_others_in_the_process_are_served(task_root, error):
    (task_root / "quitting.py").write_text(
        "import asyncio\n"
        "has_raised = asyncio.Event()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    if scope['path'] == '/health':\n"
        "        has_raised.set()\n"
        f"        raise {error}\n"
        "    await has_raised.wait()\n"
        "    await send({'type': 'http.response.body', 'body': b'whole'})\n"
    )
    async with (
        RuntimeApi() as api,
        process(api, task_root, handler="quitting.app", AWS_LAMBDA_MAX_CONCURRENCY="16") as running,
    ):
        others = [api.invoke(load_event("stream_chat")) for _ in range(15)]
        await until(lambda: all(one.begun.is_set() for one in others))
        raising = api.invoke(load_event("health"))
        await until(lambda: all(one.ended.is_set() or one.broken.is_set() for one in others))
        assert {one.body for one in others} == {b"whole"}
        await until(raising.ended.is_set)
        assert raising.trailers["lambda-runtime-function-error-type"].startswith("Function.")
        await until(lambda: api.waiting == 16)
        assert running.returncode is None


async def test_with_a_concurrency_it_polls_that_often_in_one_process(task_root):
    async with RuntimeApi() as api, process(api, task_root, AWS_LAMBDA_MAX_CONCURRENCY="16"):
        await until(lambda: api.waiting == 16)
        handed = [api.invoke(load_event("health")) for _ in range(16)]
        await until(lambda: all(one.ended.is_set() for one in handed))
        assert all(one.body.startswith(b"hello None") for one in handed), "the trace id is not in the environment"


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("app", "Runtime.MalformedHandlerName", "_HANDLER must be module.attribute"),
        ("", "Runtime.MalformedHandlerName", "_HANDLER must be module.attribute"),
        ("absent.app", "Runtime.ImportModuleError", "No module named 'absent'"),
        ("needy.app", "Runtime.ImportModuleError", "No module named 'no_such_module'"),
        ("broken.app", "Runtime.UserCodeSyntaxError", "invalid syntax"),
        ("failing.app", "Function.BadThing", "not today"),
        ("app.absent", "Runtime.HandlerNotFound", "has no 'absent'"),
        ("app.nothing", "Runtime.HandlerNotFound", "has no 'nothing'"),
        ("app.text", "Runtime.HandlerNotCallable", "cannot be called"),
        ("unlucky.app", "Function.StartupFailed", "SettingsError: A is not set"),
    ],
)
async def test_an_application_that_cannot_start_is_reported_and_said_in_one_line(
    task_root, handler, error_type, message
):
    async with RuntimeApi() as api, process(api, task_root, handler=handler) as running:
        _, err = await running.communicate()
        assert running.returncode == 1
        ((reported_type, document),) = api.init_errors
        assert reported_type == document["errorType"] == error_type
        assert message in document["errorMessage"]
        assert document["stackTrace"] == []
        (line,) = err.splitlines()
        assert message in json.loads(line)["message"]
        assert api.polls == 0


async def test_a_wrong_concurrency_is_reported_by_its_name(task_root):
    async with RuntimeApi() as api, process(api, task_root, AWS_LAMBDA_MAX_CONCURRENCY="many") as running:
        await running.communicate()
        assert running.returncode == 1
        assert "AWS_LAMBDA_MAX_CONCURRENCY" in api.init_errors[0][1]["errorMessage"]


@pytest.mark.parametrize("address", ["", "localhost", "localhost:http", ":9001"])
async def test_without_an_address_it_says_so_and_exits(task_root, address):
    async with RuntimeApi() as api, process(api, task_root, AWS_LAMBDA_RUNTIME_API=address) as running:
        _, err = await running.communicate()
        assert running.returncode == 1
        assert "AWS_LAMBDA_RUNTIME_API must be host:port" in json.loads(err)["message"]


async def test_an_init_error_that_nobody_hears_still_ends_the_process(task_root):
    class Deaf:
        address = "127.0.0.1:1"

    async with process(Deaf, task_root, handler="absent.app") as running:
        _, err = await running.communicate()
        assert running.returncode == 1
        assert "not reported" in json.loads(err.splitlines()[-1])["message"]


async def test_sigterm_during_a_slow_startup_ends_the_process(task_root):
    (task_root / "slow.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    print('starting', flush=True)\n"
        "    await asyncio.Event().wait()\n"
    )
    async with RuntimeApi() as api, process(api, task_root, handler="slow.app") as running:
        await running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        await running.communicate()
        assert (running.returncode, api.polls) == (0, 0)


async def test_a_stray_failure_in_the_loop_is_a_line_of_json(task_root):
    (task_root / "stray.py").write_text(
        "import asyncio\n"
        "async def fail(): raise ValueError('stray')\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': return\n"
        "    await asyncio.wait({asyncio.create_task(fail())})\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
    )
    async with RuntimeApi() as api, process(api, task_root, handler="stray.app") as running:
        await until(api.invoke(load_event("health")).ended.is_set)
        running.send_signal(signal.SIGTERM)
        _, err = await running.communicate()
        records = [json.loads(line) for line in err.splitlines()]
        assert any("in fail" in line for record in records for line in record.get("stackTrace", []))


async def test_the_wrapper_starts_it_in_place_of_the_managed_bootstrap(task_root):
    """As the managed runtime calls it: `$AWS_LAMBDA_EXEC_WRAPPER <interpreter> /var/runtime/bootstrap.py`."""
    command = (str(WRAPPER), sys.executable, "/var/runtime/bootstrap.py")
    environ = {"PYTHONPATH": "", "LAMBDA_RUNTIME_DIR": "/var/runtime"}
    async with RuntimeApi() as api, process(api, task_root, command=command, **environ):
        handed = api.invoke(load_event("health"))
        await until(handed.ended.is_set)
        path = handed.body.decode().partition("[")[2].split(", ")
        assert [entry.strip("'") for entry in path if entry != "''"][:4] == [
            "/",  # the working directory, which `python -m` puts first; on Lambda the same as the next
            str(task_root),
            str(SOURCE),
            "/var/runtime",
        ]


def test_the_wrapper_is_executable():
    assert os.access(WRAPPER, os.X_OK)


@pytest.mark.parametrize(
    ("address", "host", "port"), [("127.0.0.1:9001", "127.0.0.1", 9001), ("[::1]:80", "::1", 80), ("h:1", "h", 1)]
)
def test_the_environment_is_read_as_settings(address, host, port):
    settings = read_settings({"AWS_LAMBDA_RUNTIME_API": address, "_HANDLER": "a.b", "LAMBDA_TASK_ROOT": "/x"})
    assert (settings.host, settings.port, settings.handler, settings.task_root) == (host, port, "a.b", "/x")
    assert settings.concurrency == 1


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "10001", "²"])
def test_a_concurrency_that_is_no_count_is_refused(text):
    with pytest.raises(InitError, match="AWS_LAMBDA_MAX_CONCURRENCY"):
        read_settings({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_MAX_CONCURRENCY": text})


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("ValueError", "Function.ValueError"),
        ("Bad_Thing2", "Function.BadThing"),
        ("oops", "Function.Oops"),
        ("_1", "Function.Error"),
    ],
)
def test_any_exception_has_a_type_that_lambda_accepts(name, error_type):
    assert type_of(type(name, (Exception,), {})()) == error_type


async def test_an_internal_extension_is_registered_before_the_first_poll_so_that_sigterm_comes(task_root):
    async with RuntimeApi() as api, process(api, task_root) as running:
        await until(lambda: api.waiting == 1)
        assert api.extensions == {"lambda_stream": []}, "it asks for no event: an internal one may not ask for SHUTDOWN"
        await until(api.extensions_ready.is_set)
        running.terminate()
        out, _ = await running.communicate()
        assert running.returncode == 0
        assert b"stopped" in out, "the lifespan's shutdown closes what it opened"


async def test_without_extensions_it_serves_all_the_same(task_root):
    async with RuntimeApi() as api:
        api.takes_extensions = False
        async with process(api, task_root) as running:
            handed = api.invoke(load_event("health"))
            await until(handed.ended.is_set)
            assert handed.body.startswith(b"hello")
            running.terminate()
            _, errors = await running.communicate()
            assert running.returncode == 0
            assert b"no SIGTERM will announce" in errors
