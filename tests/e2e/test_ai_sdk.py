"""The AI SDK's own client, three major versions of it, on the real service."""

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from chat.domain.model import new_id
from tests.kit.ai_server import AIServer, Gate, body, chunk, cut, event, finish, say, status, text
from tests.kit.browser import chromium
from tests.kit.node import EXAMPLES, put, workshop
from tests.kit.service import running
from tests.kit.waiting import until

PACKAGES = Path(__file__).parents[1] / "kit" / "ai_sdk"
USER = {"X-User-Id": "user-1"}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("ai-sdk"),
    pytest.mark.asyncio(loop_scope="module"),
]


class Chat:
    """A chat of the SDK in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self.name = name

    async def __call__(self, do: str, **options: Any) -> dict[str, Any]:
        """Do something and return the chat's state: status, error, messages."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **options}).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, "the SDK's process has ended"
        return json.loads(line)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ai():
    async with AIServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(ai):
    loop = asyncio.get_running_loop()
    context = running({"OPENAI_BASE_URL": ai.url, "CHAT_MESSAGES_PER_MINUTE": "0"})
    yield await loop.run_in_executor(None, context.__enter__)
    await loop.run_in_executor(None, context.__exit__, None, None, None)


@pytest.fixture(params=["ai5", "ai6", "ai7"])
def version(request):
    return request.param


@pytest_asyncio.fixture(loop_scope="module")
async def open_chat(service, version):
    processes = []

    async def begin(name: str | None = None, **headers: str) -> Chat:
        script = put(workshop(PACKAGES), PACKAGES / "chat.mjs")
        name = name or new_id()[:16]
        command = ["node", script.name, version, service.url, json.dumps({**USER, **headers}), name]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=script.parent, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22
        )
        processes.append(process)
        return Chat(process, name)

    yield begin
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


def said(state: dict[str, Any], kind: str = "text") -> str:
    return "".join(part["text"] for part in state["messages"][-1]["parts"] if part["type"] == kind)


def roles(state: dict[str, Any]) -> list[str]:
    return [message["role"] for message in state["messages"]]


async def test_an_answer_with_everything_becomes_a_message(open_chat, ai):
    annotation = {"type": "url_citation", "url_citation": {"url": "https://a.example/", "title": "A"}}
    ai.script(
        body(
            event(chunk({"reasoning": "생각"})),
            *(text(piece) for piece in ["안녕", "하세요 👩", "\u200d👩", "\u200d👧 ", '"quoted"\n']),
            event(chunk({"annotations": [annotation]})),
            finish(),
        )
    )
    chat = await open_chat()
    state = await chat("send", text="안녕 👋")
    assert (state["status"], state.get("error"), roles(state)) == ("ready", None, ["user", "assistant"])
    assert said(state) == '안녕하세요 👩\u200d👩\u200d👧 "quoted"\n'
    assert said(state, "reasoning") == "생각"
    parts = {part["type"]: part for part in state["messages"][-1]["parts"]}
    assert (parts["source-url"]["url"], parts["source-url"]["title"]) == ("https://a.example/", "A")
    assert {part.get("state") for part in state["messages"][-1]["parts"]} == {"done", None}
    metadata = state["messages"][-1]["metadata"]
    assert (metadata["status"], metadata["finishReason"]) == ("completed", "stop")
    assert metadata["characters"] == len(said(state))


async def test_a_second_message_goes_on_in_the_same_chat(open_chat, ai):
    chat = await open_chat()
    await chat("send", text="one")
    state = await chat("send", text="two")
    assert roles(state) == ["user", "assistant"] * 2
    assert [turn["content"] for turn in ai.calls[-1].json["messages"]] == ["one", "Hello world", "two"]


async def test_another_answer_takes_the_place_of_the_last_one(open_chat, ai):
    ai.script(say("one"), say("another"))
    chat = await open_chat()
    await chat("send", text="question")
    state = await chat("regenerate")
    assert (state["status"], said(state), roles(state)) == ("ready", "another", ["user", "assistant"])
    await chat("send", text="next")
    assert [turn["content"] for turn in ai.calls[-1].json["messages"]] == ["question", "another", "next"]


async def test_a_message_can_be_edited_and_the_old_branch_is_not_told(open_chat, ai):
    ai.script(say("one"), say("two"), say("three"))
    chat = await open_chat()
    await chat("send", text="first")
    state = await chat("send", text="second")
    edited = state["messages"][2]["id"]
    state = await chat("send", text="second, edited", messageId=edited)
    assert (said(state), roles(state)) == ("three", ["user", "assistant"] * 2)
    assert [turn["content"] for turn in ai.calls[-1].json["messages"]] == ["first", "one", "second, edited"]


async def test_an_error_before_the_first_token_is_told_in_words(open_chat, ai):
    ai.script(status(400))
    state = await (await open_chat())("send", text="one")
    assert (state["status"], state["error"]) == ("error", "The AI service did not accept the request.")


async def test_an_error_after_text_keeps_the_text(open_chat, ai):
    ai.script(cut(text("Half an")))
    state = await (await open_chat())("send", text="one")
    assert (state["status"], state["error"], said(state)) == ("error", "The answer was cut off.", "Half an")
    assert state["messages"][-1]["metadata"]["failure"]["code"] == "ai_incomplete"


async def test_a_reload_in_the_midst_resumes_the_answer(open_chat, ai):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate))
    chat = await open_chat()
    await chat("send", text="one", wait=False)
    await gate.release()
    await chat("until", text="Hello")
    await chat("reload", keep=1)
    await chat("resume", wait=False)
    await chat("until", text="Hello")
    await gate.open()
    state = await chat("settled")
    assert (state["status"], said(state), roles(state)) == ("ready", "Hello world", ["user", "assistant"])


async def test_with_nothing_to_resume_a_reload_changes_nothing(open_chat):
    chat = await open_chat()
    before = await chat("send", text="one")
    assert (await chat("resume"))["messages"] == before["messages"]


async def test_stop_leaves_and_the_cancel_route_ends_the_answer(open_chat, ai, service):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate))
    chat = await open_chat()
    await chat("send", text="one", wait=False)
    await gate.release()
    state = await chat("until", text="Hello")
    await chat("stop")
    metadata = (await chat("look"))["messages"][-1]["metadata"]
    async with httpx.AsyncClient(base_url=service.url, headers=USER) as client:
        path = f"/api/chat/{metadata['chatId']}/cancel"
        cancelled = await client.post(
            path,
            json={"userMessageId": metadata["userMessageId"]},
            headers={"X-Session-Id": metadata["sessionId"]},
        )
    assert cancelled.json()["status"] == "cancelled"
    await ai.calls[-1].closed.wait()
    assert said(state) == "Hello"


async def test_a_second_tab_watches_the_answer_and_cannot_send_into_it(open_chat, ai):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate))
    first = await open_chat()
    await first("send", text="one", wait=False)
    await gate.release()
    await first("until", text="Hello")
    second = await open_chat(first.name)
    refused = await second("send", text="two")
    assert refused["status"] == "error"
    assert json.loads(refused["error"])["code"] == "stream_in_progress"
    await second("reload", keep=0)
    await second("resume", wait=False)
    await second("until", text="Hello")
    await gate.open()
    assert said(await second("settled")) == "Hello world"


@pytest.mark.parametrize("version", ["ai7"], indirect=True)
async def test_a_killed_process_is_an_interrupted_answer_with_its_text(open_chat, ai, service):
    ai.script(say("Hello", " world", gate=(gate := Gate())))
    chat = await open_chat()
    await chat("send", text="one", wait=False)
    await gate.release()
    await chat("until", text="Hello")
    [pid] = service.pids("-m lambda_stream")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid not in service.pids("-m lambda_stream") and service.pids("-m lambda_stream"))
    assert (await chat("settled"))["status"] == "error"
    state = await chat("look")
    assert said(state) == "Hello"
    await chat("reload", keep=1)
    state = await chat("resume")
    if len(state["messages"]) > 1:  # else it had been ended before
        assert (state["error"], said(state)) == ("The answer was interrupted.", "Hello")
    state = await chat("send", text="two")
    assert (state["status"], said(state)) == ("ready", "Hello world")
    assert [turn["content"] for turn in ai.calls[-1].json["messages"]][-3:] == ["one", "Hello", "two"]


@pytest.fixture(scope="module")
def example() -> Iterator[str]:
    """`examples/ai-sdk`, bundled, on a port of its own: another origin than the service."""
    folder = workshop(EXAMPLES / "ai-sdk")
    for name in ("chat.jsx", "index.html"):
        put(folder, EXAMPLES / "ai-sdk" / name)
    bundle = ["node_modules/.bin/esbuild", "chat.jsx", "--bundle", "--jsx=automatic", "--outfile=chat.js"]
    subprocess.run(bundle, cwd=folder, check=True, capture_output=True, timeout=60)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


async def test_the_example_sends_stops_and_goes_on_after_a_reload(example, ai, service):
    gate = Gate()
    ai.script(say("Hello", " world", gate=gate), say("Never", " ending", gate=Gate()))
    async with chromium() as browser, await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(f"{example}?url={service.url}")
        await page.fill("input", "one")
        await page.click("text=Send")
        await gate.release()
        await page.wait_for_selector("[data-role=assistant]:has-text('Hello')")
        await page.reload()
        await page.wait_for_selector("[data-role=assistant]:has-text('Hello')")
        await gate.open()
        await page.wait_for_selector("[data-role=assistant]:has-text('Hello world')")
        await page.wait_for_selector("[role=status]:has-text('ready')")
        await page.fill("input", "two")
        await page.click("text=Send")
        await page.wait_for_selector("button:has-text('Stop'):enabled")
        await page.wait_for_function("document.querySelectorAll('[data-role=assistant]').length === 2")
        await page.click("text=Stop")
        await ai.calls[-1].closed.wait()
        assert await page.locator("[data-role=user]").count() == 2
