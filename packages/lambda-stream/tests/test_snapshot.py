"""SnapStart: hooks and lifespan around the snapshot, in real processes; copies are played by fork."""

import asyncio
import json
import signal

import pytest

from lambda_stream.testing import FunctionProcess, NoSnapshot, RuntimeApi, Snapshot, function_url_event
from tests.kit.waiting import until

pytestmark = pytest.mark.slow

APP = """
import json, os, random, secrets, ssl, time, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot
from lambda_stream import after_restore, before_snapshot

events = []

@before_snapshot
def first_before():
    events.append("before 1")

@before_snapshot
async def second_before():
    events.append("before 2")

@register_before_snapshot
def before_by_aws():
    events.append("before of aws")

@after_restore
async def first_after():
    events.append("after 1")

@after_restore
def second_after():
    events.append("after 2")

register_after_restore(lambda word: events.append(f"after of aws, {word}"), "again")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        events.append("startup")
        scope["state"]["started"] = random.random()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    found = {
        "events": events,
        "ids": [random.random(), secrets.token_hex(8), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(),
                scope["state"]["started"]],
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})
"""
ALL = [
    "startup",
    "shutdown",
    *("before 2", "before 1", "before of aws"),
    *("after of aws, again", "after 1", "after 2"),
    "startup",
]
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


@pytest.fixture
def function(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return FunctionProcess("app.app", tmp_path, SNAP_START)


async def asked(api):
    invocation = api.invoke(function_url_event("GET", "/"))
    await until(invocation.ended.is_set)
    return json.loads(invocation.body)


async def test_hooks_and_lifespan_run_around_the_snapshot_in_the_order_of_aws(function):
    async with RuntimeApi() as api:
        api.is_restored = False
        async with function.running(api) as process:
            await until(api.at_snapshot.is_set)
            assert api.polls == 0
            api.restore()
            assert (await asked(api))["events"] == ALL
            process.terminate()
            assert await process.wait() == 0


async def test_without_snapstart_no_hook_is_called_and_the_lifespan_runs_once(function):
    function.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand"
    async with RuntimeApi() as api, function.running(api):
        assert (await asked(api))["events"] == ["startup"]
        assert not api.at_snapshot.is_set()


async def test_copies_of_one_snapshot_draw_different_randomness(function, tmp_path):
    async with (
        Snapshot.of(function, tmp_path / "log") as snapshot,
        snapshot.restored() as one,
        snapshot.restored() as two,
    ):
        found = [await asked(copy.api) for copy in (one, two)]
        assert [answer["events"] for answer in found] == [ALL, ALL]
        assert not set(found[0]["ids"]) & set(found[1]["ids"])
        assert one.pid != two.pid


async def test_a_copy_serves_on_when_another_has_ended(function, tmp_path):
    async with Snapshot.of(function, tmp_path / "log") as snapshot, snapshot.restored() as one:
        async with snapshot.restored() as two:
            await asked(two.api)
        for _ in range(3):
            await asked(one.api)


@pytest.mark.parametrize("word", ["before_snapshot", "snapshot_restore_py.register_before_snapshot"])
async def test_a_hook_that_fails_before_the_snapshot_is_an_init_error(tmp_path, word):
    hook = f"import lambda_stream, snapshot_restore_py\n@{word if '.' in word else 'lambda_stream.' + word}\n"
    (tmp_path / "app.py").write_text(hook + "def hook():\n    raise KeyError('a secret')\n\nasync def app(*_): ...\n")
    async with RuntimeApi() as api, FunctionProcess("app.app", tmp_path, SNAP_START).running(api) as process:
        assert await process.wait() == 1
        ((kind, document),) = api.init_errors
        assert kind == document["errorType"] == "Runtime.BeforeSnapshotError"
        assert "KeyError" in document["errorMessage"] and "a secret" not in document["errorMessage"]
        assert not api.at_snapshot.is_set() and api.polls == 0


AFTER = """
import lambda_stream
@lambda_stream.after_restore
def hook():
    raise KeyError("a secret")
async def app(*_): ...
"""
STARTUP = """
starts = 0
async def app(scope, receive, send):
    global starts
    await receive()
    starts += 1
    failed = {"type": "lifespan.startup.failed", "message": "no keys"}
    await send(failed if starts == 2 else {"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize(("source", "said"), [(AFTER, "KeyError"), (STARTUP, "no keys")])
async def test_what_fails_after_the_restore_is_a_restore_error(tmp_path, source, said):
    (tmp_path / "app.py").write_text(source)
    async with RuntimeApi() as api, FunctionProcess("app.app", tmp_path, SNAP_START).running(api) as process:
        assert await process.wait() == 1
        ((kind, document),) = api.restore_errors
        assert kind == document["errorType"] == "Runtime.AfterRestoreError"
        assert said in document["errorMessage"] and "a secret" not in document["errorMessage"]
        assert (api.init_errors, api.polls) == ([], 0)


async def test_a_process_that_waits_for_its_restore_ends_on_sigterm(function):
    async with RuntimeApi() as api:
        api.is_restored = False
        async with function.running(api) as process:
            await until(api.at_snapshot.is_set)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
            assert api.init_errors == api.restore_errors == []


async def test_a_function_that_cannot_start_has_no_snapshot(tmp_path):
    with pytest.raises(NoSnapshot, match="ImportModuleError"):
        async with Snapshot.of(FunctionProcess("missing.app", tmp_path), tmp_path / "log"):
            pass
