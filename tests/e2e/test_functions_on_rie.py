"""The three functions themselves under AWS's runtime interface emulator: stream_chat on lambda_stream in both modes,
create_chat and cancel_stream on AWS's own Python client, through Mangum."""

import asyncio
import base64
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chat.domain.model import new_id
from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.events import load_event
from tests.kit.rie import Rie, RieUnavailable, rie_binary, running_rie, why_not_here

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "common"
STREAM = ROOT / "packages" / "lambda-stream" / "src"
WRAPPER = ("lambda_stream/bootstrap", sys.executable, "/var/runtime/bootstrap.py")
"""The first part stands in the layer."""
AWS_CLIENT = (sys.executable, "-m", "awslambdaric", "app.handler")


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


@asynccontextmanager
async def function(name: str, command, environ: dict[str, str], tmp_path: Path, concurrency: int | None = None):
    if reason := why_not_here(concurrency is not None):
        pytest.skip(reason)
    try:
        rie_binary()
    except RieUnavailable as error:
        pytest.fail(str(error))
    layer = tmp_path / f"layer-{name}"
    layer.mkdir()
    for package in (LAYER / "chat", STREAM / "lambda_stream"):
        (layer / package.name).symlink_to(package)
    command = (str(layer / command[0]), *command[1:]) if command is WRAPPER else command
    task_root = ROOT / "functions" / name
    runtime = {"_HANDLER": "app.app" if name == "stream_chat" else "app.handler", "LAMBDA_RUNTIME_DIR": str(layer)}
    environment = {**environ, **runtime, "PYTHONPATH": f"{task_root}:{layer}"}
    async with running_rie(command, task_root, environment, tmp_path / f"{name}.log", concurrency) as rie:
        yield rie


def event(method: str, path: str, body: object = None, session: str = "phone", **headers: str) -> dict:
    whole = load_event("stream_chat")
    whole["rawPath"] = whole["requestContext"]["http"]["path"] = path
    whole["requestContext"]["http"]["method"] = method
    whole["rawQueryString"] = ""
    whole["headers"] = {"x-user-id": "user-1", "x-session-id": session, "content-type": "application/json", **headers}
    whole.pop("cookies", None)
    whole["isBase64Encoded"] = body is not None
    whole.pop("body", None)
    if body is not None:
        whole["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    return whole


async def create(rie: Rie) -> str:
    answer = (await rie.invoke(event("POST", "/api/chat/create", {"title": "안녕"}))).json()
    assert answer["statusCode"] == 201, answer
    return json.loads(answer["body"])["chatId"]


def streamed(body: bytes) -> tuple[dict, str]:
    """Take the prelude and the events of a streamed response apart."""
    prelude, _, stream = body.partition(b"\x00" * 8)
    return json.loads(prelude), stream.decode()


def text(stream: str) -> str:
    blocks = [block for block in stream.split("\n\n") if block.startswith("data: ")]  # the others have a name
    return "".join(json.loads(block.splitlines()[0].removeprefix("data: "))["delta"] for block in blocks)


@pytest.fixture
def environ(embedded_redis, sqlite_url, ai) -> dict[str, str]:
    return {"REDIS_URL": embedded_redis, "MYSQL_URL": sqlite_url, "OPENAI_BASE_URL": ai.url}


async def test_create_stream_and_cancel_one_after_the_other(environ, ai, tmp_path):
    async with (
        function("create_chat", AWS_CLIENT, environ, tmp_path) as creator,
        function("stream_chat", WRAPPER, environ, tmp_path) as streamer,
        function("cancel_stream", AWS_CLIENT, environ, tmp_path) as canceller,
    ):
        chat_id = await create(creator)
        path = f"/api/chat/{chat_id}/stream"
        answer = await streamer.invoke(event("POST", path, {"content": "안녕하세요"}))
        prelude, stream = streamed(answer.content)
        assert prelude["statusCode"] == 200
        assert prelude["headers"]["content-type"] == "text/event-stream; charset=utf-8"
        assert text(stream) == "Hello world"

        gate = Gate()
        ai.script(say("one ", "two", gate=gate))
        running = asyncio.create_task(streamer.invoke(event("POST", path, {"content": "again"})))
        call = await ai.called(2)
        assert call.json["messages"][:2] == [
            {"role": "user", "content": "안녕하세요"},
            {"role": "assistant", "content": "Hello world"},
        ]
        await gate.release(1)
        await gate.reached()
        reply = (await canceller.invoke(event("POST", f"/api/chat/{chat_id}/cancel"))).json()
        assert json.loads(reply["body"])["status"] == "cancelled"
        _, stream = streamed((await running).content)
        assert '"status":"cancelled"' in stream
        assert len(text(stream)) == json.loads(reply["body"])["characters"]


async def test_bad_requests_get_the_same_problem_documents(environ, tmp_path):
    async with (
        function("create_chat", AWS_CLIENT, environ, tmp_path) as creator,
        function("stream_chat", WRAPPER, environ, tmp_path) as streamer,
    ):
        buffered = (await creator.invoke(event("GET", "/api/chat/create"))).json()
        assert (buffered["statusCode"], buffered["headers"]["allow"]) == (405, "POST")
        assert buffered["headers"]["content-type"] == "application/problem+json"
        assert not buffered["isBase64Encoded"]
        assert json.loads(buffered["body"])["code"] == "method_not_allowed"
        missing = await streamer.invoke(event("POST", f"/api/chat/{new_id()}/stream", {"content": "x"}))
        prelude, body = streamed(missing.content)
        assert (prelude["statusCode"], json.loads(body)["code"]) == (404, "chat_not_found")
        health = (await creator.invoke(event("GET", "/health"))).json()
        assert json.loads(health["body"])["status"] == "ok"
        alive = (await creator.invoke(event("HEAD", "/health"))).json()
        assert (alive["statusCode"], alive["body"]) == (200, "")
        prelude, body = streamed((await streamer.invoke(event("HEAD", "/health"))).content)
        assert (prelude["statusCode"], body) == (200, "")
        prelude, body = streamed((await streamer.invoke(event("HEAD", f"/api/chat/{new_id()}/stream"))).content)
        assert (prelude["statusCode"], prelude["headers"]["allow"], body) == (405, "GET, POST", "")


async def test_sixteen_answers_run_at_once_in_one_process(environ, ai, tmp_path):
    gate = Gate()
    ai.default = say("Hello", " world", gate=gate)
    limits = {"CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0", "CHAT_MAX_STREAMS_PER_USER": "0"}
    async with (
        function("create_chat", AWS_CLIENT, environ, tmp_path) as creator,
        function("stream_chat", WRAPPER, {**environ, **limits}, tmp_path, concurrency=16) as streamer,
    ):
        chats = [await create(creator) for _ in range(16)]
        asked = [event("POST", f"/api/chat/{chat}/stream", {"content": "x"}) for chat in chats]
        answers = [asyncio.create_task(streamer.invoke(each)) for each in asked]
        await gate.reached(16)  # all are at the AI, and none has had a delta
        await gate.open()
        for answer in await asyncio.gather(*answers):
            assert text(streamed(answer.content)[1]) == "Hello world"
        assert ai.connections <= 17


@pytest.mark.parametrize(("name", "command"), [("stream_chat", WRAPPER), ("create_chat", AWS_CLIENT)])
async def test_a_wrong_setting_stops_the_function_by_its_name(environ, tmp_path, name, command):
    async with function(name, command, {**environ, "CHAT_AUTH": "basic"}, tmp_path) as rie:
        answer = await rie.invoke(event("GET", "/health"))
        assert "CHAT_AUTH must be header or jwt" in answer.text + rie.log
