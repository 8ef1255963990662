"""`make run` as a person meets it: real processes. The functions are stand-ins, but in the last part."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
from contextlib import AsyncExitStack, closing

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.kit.ai_server import AIServer, status
from tests.kit.gate import gate
from tests.kit.service import ROOT, STUB_FUNCTIONS, clean_environ, processes, running, started
from tests.kit.waiting import until, until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]


@pytest.fixture(scope="module")
def service():
    with running({"AWS_LAMBDA_MAX_CONCURRENCY": "16"}, functions=STUB_FUNCTIONS) as service:
        yield service


@pytest.fixture
async def client(service):
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
        yield client


@pytest.fixture
async def shut():
    async with gate() as shut:
        yield shut


def stream(client, shut, **more):
    return client.stream("POST", "/api/chat/1/stream", json={"gate": shut.port, **more})


def cancel(client, **asked):
    return client.post("/api/chat/1/cancel", json=asked)


async def test_a_stream_arrives_piece_by_piece(client, shut):
    async with stream(client, shut) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "first"
        assert shut.finished == 0
        shut.let_go()
        assert [line async for line in lines] == ["last"]


async def test_a_hundred_streams_run_at_once_on_as_many_processes_as_they_need(service, client, shut):
    async with AsyncExitStack() as stack:
        responses = [await stack.enter_async_context(stream(client, shut)) for _ in range(100)]
        streams = [response.aiter_lines() for response in responses]
        assert [await anext(lines) for lines in streams] == ["first"] * 100
        await until(lambda: shut.arrived == 100)
        assert 7 <= len(service.pids("lambda_stream")) <= 8  # 16 streams each
        shut.let_go()
        assert [[line async for line in lines] for lines in streams] == [["last"]] * 100


async def test_a_client_that_goes_away_does_not_end_its_stream(client, shut):
    async with stream(client, shut) as response:
        assert await anext(response.aiter_lines()) == "first"
    await until(lambda: shut.arrived)
    shut.let_go()
    await until(lambda: shut.finished)


async def test_a_stream_whose_process_dies_is_cut(client, shut):
    async with stream(client, shut, do="exit") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "first"
        shut.let_go()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(lines)


async def test_an_error_in_the_middle_of_a_stream_cuts_it(client, shut):
    async with stream(client, shut, do="raise") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "first"
        shut.let_go()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(lines)


async def test_the_event_is_that_of_a_function_url(client):
    response = await client.post("/api/chat/create?a=1", json={"title": "제목"}, headers={"X-User-Id": "kim"})
    assert response.status_code == 201
    seen = response.json()
    assert json.loads(seen["event"]["body"]) == {"title": "제목"}
    assert seen["event"]["headers"]["x-user-id"] == "kim"
    assert seen["event"]["rawQueryString"] == "a=1"
    assert seen["requestId"] == response.headers["x-amzn-requestid"]
    assert seen["name"] == "create_chat" and 0 < seen["remaining"] <= 30_000


def test_what_it_keeps_is_for_this_user_alone(service):
    found = {service.state, *service.state.rglob("*")} - {service.state / "stderr"}  # the test's own
    assert len(found) > 3
    assert not [path for path in found if path.lstat().st_mode & 0o077]


async def test_a_slow_cancel_does_not_hold_up_others(client, shut):
    slow = [asyncio.create_task(cancel(client, gate=shut.port)) for _ in range(3)]
    await until(lambda: shut.arrived == 3)
    assert (await cancel(client)).status_code == 200
    assert not any(one.done() for one in slow)
    shut.let_go()
    assert len({(await one).json()["pid"] for one in slow}) == 3


async def test_an_error_of_a_function_is_a_502_and_its_process_goes_on(client):
    response = await cancel(client, do="raise")
    assert (response.status_code, response.headers["content-type"]) == (502, "application/problem+json")
    assert "as asked" not in response.text
    assert (await cancel(client)).status_code == 200


async def test_a_function_that_dies_is_started_again(service, client):
    assert (await cancel(client, do="exit")).status_code == 502
    assert (await cancel(client)).status_code == 200
    assert "cancel_stream ended with code 3 and is started again" in service.errors


async def test_a_page_is_at_the_root(client):
    response = await client.get("/")
    assert response.headers["content-type"].startswith("text/html") and "<title>" in response.text


def test_only_this_machine_is_served(service):
    listeners = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [line.split()[3] for line in listeners if any(f"pid={pid}," in line for pid in service.pids())]
    assert len(mine) > 3
    assert all(address.startswith("127.0.0.1:") for address in mine)


def test_it_says_one_line_when_it_is_ready_and_nothing_when_it_is_stopped():
    with running(functions=STUB_FUNCTIONS) as service:
        assert service.stop() == 0
        assert (service.process.stdout.read(), service.errors) == ("", "")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_stopping_it_leaves_nothing_behind_even_when_streams_run(how, shut):
    with running(functions=STUB_FUNCTIONS) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client, stream(client, shut) as response:
            assert await anext(response.aiter_lines()) == "first"
            assert len(service.pids()) >= 7
            assert await asyncio.to_thread(service.stop, how) == 0
            await until(lambda: not service.pids())
        assert service.errors == ""


def test_killing_it_leaves_nothing_behind():
    with running(functions=STUB_FUNCTIONS) as service:
        os.kill(service.pids("lambda_stream")[0], signal.SIGSTOP)
        service.process.kill()
        until_sync(lambda: not service.pids(), "everything is gone")


def test_stores_and_model_are_started_again_at_the_same_place(tmp_path):
    with running(functions=STUB_FUNCTIONS, state=tmp_path) as service:
        for program in ("valkey-server", "demo_model"):
            (pid,) = service.pids(program)
            os.kill(pid, signal.SIGKILL)
            until_sync(lambda: service.pids(program) not in ([], [pid]), "there is another one")  # noqa: B023
        until_sync(lambda: service.log("valkey").count("Ready to accept connections") == 2)
        assert "valkey was killed (SIGKILL) and is started again" in service.errors


def refused(folder, overrides=None, functions=STUB_FUNCTIONS):
    """Start what cannot start; return what it says, and check that nothing is left of it."""
    with started(folder, "refused", overrides, functions) as process:
        assert process.stdout.read() == ""
        assert process.wait(60) == 1
    until_sync(lambda: not processes(folder, "refused"), "nothing is left of it")
    return (folder / "stderr").read_text()


def test_an_occupied_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, {"PORT": str(port)})
    assert said == f"make run: port {port} is in use already; choose another one: PORT={port + 1} make run\n"


@pytest.mark.parametrize(
    "setting", [{"PORT": "http"}, {"CHAT_AUTH": "none"}, {"REDIS_URL": "here"}, {"OPENAI_API_KEY": "Bearer sk"}]
)
def test_a_bad_setting_is_named(tmp_path, setting):
    said = refused(tmp_path, setting)
    assert said.startswith(f"make run: {next(iter(setting))} ") and said.count("\n") == 1


def test_a_database_that_cannot_be_reached_is_told_without_its_password(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    said = refused(tmp_path, {"MYSQL_URL": f"mysql://kim:hush@127.0.0.1:{port}/chat"})
    assert said.startswith("make run: migrations failed: ") and said.count("\n") == 1
    assert "connect" in said and "hush" not in said


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("create_chat", "raise RuntimeError('not today')", "RuntimeError: not today"),
        ("stream_chat", "import nothing_of_this_name", "nothing_of_this_name"),
    ],
)
def test_a_function_that_does_not_start_is_named_with_its_reason(tmp_path, name, source, reason):
    for one in STUB_FUNCTIONS.iterdir():
        folder = tmp_path / "functions" / one.name
        folder.mkdir(parents=True)
        (folder / "app.py").write_text(source if one.name == name else (one / "app.py").read_text())
    said = refused(tmp_path / "state", functions=tmp_path / "functions")
    assert said.startswith(f"make run: {name} does not start: it ended with code 1: ")
    assert reason in said and said.count("\n") == 1


def test_ctrl_c_works_while_it_is_still_starting(tmp_path):
    for one in STUB_FUNCTIONS.iterdir():
        (tmp_path / "functions" / one.name).mkdir(parents=True)
        (tmp_path / "functions" / one.name / "app.py").write_text("import time; time.sleep(600)")
    with started(tmp_path, "starting", functions=tmp_path / "functions") as process:
        until_sync(lambda: len(processes(tmp_path, "starting", "plain_runtime")) == 3)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    until_sync(lambda: not processes(tmp_path, "starting"), "nothing is left of it")
    assert (tmp_path / "stderr").read_text() == ""


def test_a_second_one_in_the_same_folder_is_refused(tmp_path):
    with running(functions=STUB_FUNCTIONS, state=tmp_path / "state") as service:
        with started(tmp_path / "second", functions=STUB_FUNCTIONS) as elsewhere:
            assert elsewhere.stdout.readline().startswith("Chat service on ")
        command = [*service.process.args]
        environ = clean_environ() | {"PYTHONPATH": "layers/common:packages/lambda-stream/src"}
        second = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (second.returncode, second.stdout) == (1, "")
    other = "choose another folder: make run ARGS='--state FOLDER'"
    assert second.stderr == f"make run: another one is already running in {tmp_path / 'state'}; {other}\n"


# From here on the real functions, with everything that comes along.

KIM = {"X-User-Id": "kim", "X-Session-Id": "laptop"}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def chat_service(state):
    with running(state=state) as service:
        yield service


@pytest.fixture
async def chats(chat_service):
    async with httpx.AsyncClient(base_url=chat_service.url, timeout=60, headers=KIM) as client:
        yield client


async def create(chats):
    return (await chats.post("/api/chat/create")).json()["chatId"]


def ask(chats, chat_id, content):
    return aconnect_sse(chats, "POST", f"/api/chat/{chat_id}/stream", json={"content": content})


def text_of(events):
    return "".join(json.loads(event.data)["delta"] for event in events if event.event == "message")


def stored_text(state, message_id):
    with closing(sqlite3.connect(state / "chat.sqlite3")) as database:
        return database.execute("SELECT status, content FROM messages WHERE id = ?", (message_id,)).fetchone()


async def test_the_demo_answers_in_a_stream_with_reasoning_and_a_source_and_the_answer_is_stored(chats, state):
    async with ask(chats, await create(chats), "Why do rainbows form?") as source:
        events = [event async for event in source.aiter_sse()]
    kinds = [event.event for event in events]
    assert kinds[0] == "start" and kinds[-1] == "done"
    assert kinds.count("message") > 20 and kinds.count("reasoning") > 5 and kinds.count("sources") == 1
    done = json.loads(events[-1].data)
    assert done["status"] == "completed" and not done["usage"]["estimated"]
    assert "demo model" in text_of(events)
    assert stored_text(state, done["messageId"]) == ("completed", text_of(events))


async def test_an_answer_is_cancelled_from_elsewhere_and_what_arrived_is_stored(chats, state):
    chat_id = await create(chats)
    async with ask(chats, chat_id, "무지개에 대해 길게 설명해 주세요") as source:
        stream = source.aiter_sse()
        events = [await anext(stream) for _ in range(6)]
        async with httpx.AsyncClient(base_url=chats.base_url, timeout=30) as elsewhere:
            reply = await elsewhere.post(f"/api/chat/{chat_id}/cancel", headers={"X-Session-Id": "laptop"})
        events += [event async for event in stream]
    done = json.loads(events[-1].data)
    assert (reply.json()["status"], done["status"]) == ("cancelled", "cancelled")
    assert reply.json()["characters"] == len(text_of(events))
    assert stored_text(state, done["messageId"]) == ("cancelled", text_of(events))


async def test_what_an_operator_should_do_is_said_at_the_terminal_once():
    """A refused key, Redis away, and a variable that is no setting: each a line, and the service runs."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()[1]
    async with AIServer() as ai:
        ai.default = status(401)
        settings = {
            "OPENAI_BASE_URL": ai.url,
            "OPENAI_API_KEY": "sk-SECRET",
            "REDIS_URL": f"redis://127.0.0.1:{nobody}",
            "CHAT_WALLPAPER": "blue",
        }
        loop, context = asyncio.get_running_loop(), running(settings)
        service = await loop.run_in_executor(None, context.__enter__)
        try:
            async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=KIM) as client:
                for _ in range(2):
                    async with ask(client, await create(client), "Hello") as source:
                        events = [event async for event in source.aiter_sse()]
                    assert json.loads(events[-2].data)["code"] == "ai_rejected"
            await until(lambda: service.errors.count("\n") >= 3)
            said = service.errors
        finally:
            await loop.run_in_executor(None, context.__exit__, None, None, None)
    assert said.count("the AI refused the key (401): check OPENAI_API_KEY") == 1
    assert said.count("Redis (REDIS_URL) does not answer") == 1
    assert said.count("CHAT_WALLPAPER is no setting") == 1
    assert "SECRET" not in said


async def test_a_dead_stream_process_is_replaced_and_health_is_ok_again(chat_service, chats):
    async with ask(chats, await create(chats), "Tell me a long story") as source:
        stream = source.aiter_sse()
        assert (await anext(stream)).event == "start"
        for pid in chat_service.pids("lambda_stream"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in stream:
                pass

    async def is_ok() -> bool:  # what was handed to a process in the moment of its death is 502, as on Lambda
        return (await chats.get("/health")).json()["status"] == "ok"

    await until(is_ok)


def test_make_run_starts_it_ctrl_c_ends_it_and_chats_are_still_there_the_next_time(tmp_path):
    chat_id = ""
    for _ in range(2):
        command = ["make", "-o", ".venv/.run", "run", f"ARGS=--state {tmp_path}"]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as make:
            url = make.stdout.readline().split()[3]
            chat_id = chat_id or httpx.post(f"{url}/api/chat/create", headers=KIM).json()["chatId"]
            assert httpx.get(f"{url}/api/chat/{chat_id}/stream", headers=KIM).status_code == 204
            os.killpg(make.pid, signal.SIGINT)  # as a terminal does
            assert (make.stdout.read(), make.stderr.read()) == ("", "")
        until_sync(lambda: not processes(tmp_path, "none"), "nothing is left")
