"""The examples of `docs/clients.md`, run as they stand there: on the real service, and over connections that break."""

import asyncio
import json
import re
import signal
import sys

import pytest
import pytest_asyncio

from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.browser import chromium, need, visiting
from tests.kit.node import EXAMPLES, ROOT, put, workshop
from tests.kit.service import running
from tests.kit.stub_service import Cut, FailureCode, StubService
from tests.kit.typescript_client import install
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients"), pytest.mark.asyncio(loop_scope="module")]

PYTHON = ["httpx_sse_client.py", "chat_client.py"]
CLIENT = ROOT / "clients" / "python" / "src"
OWN = "chat-client.mjs"
NODE = ["fetch-event-source.mjs", "eventsource.mjs", OWN]
AI_SDK = "ai-sdk/chat.jsx"
OLD = "old-service.mjs"
ANSWER = ["안녕", "하세요 ", "👋🏽", "\n\u2028끝"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ai():
    async with AIServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(ai):
    with running({"OPENAI_BASE_URL": ai.url, "OPENAI_API_KEY": "none"}) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def stub():
    async with StubService() as stub:
        yield stub


class Example:
    """An example that runs; `said` grows with what it prints."""

    def __init__(self, process):
        self._process = process
        self._reading = asyncio.gather(self._read(), process.stderr.read())
        self.said = ""

    async def _read(self):
        output = b""
        while piece := await self._process.stdout.read(65536):
            output += piece
            self.said = output.decode(errors="ignore")

    async def says(self, text):
        await until(lambda: text in self.said or self._process.returncode is not None, f"the example says {text!r}")
        assert text in self.said

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    async def end(self):
        _, errors = await self._reading
        return await self._process.wait(), self.said, errors.decode()


def command(name):
    if name in PYTHON:
        return [sys.executable, EXAMPLES / name]
    if name == "curl.sh":
        need("curl")
        return ["sh", EXAMPLES / name]
    if name == OWN:
        install(workshop())
    return ["node", put(workshop(), EXAMPLES / name)]


async def start(name, url, *arguments):
    process = await asyncio.create_subprocess_exec(
        *map(str, [*command(name), *arguments]),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CHAT_URL": url, "PYTHONUTF8": "1", "PYTHONPATH": str(CLIENT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return Example(process)


@pytest.mark.parametrize("name", [*NODE, *PYTHON])
async def test_an_example_prints_the_answer_of_the_real_service_as_it_comes(service, ai, name):
    gate = Gate()
    ai.script(say(*ANSWER, gate=gate))
    example = await start(name, service.url, "뭐 해?")
    await gate.release()
    await example.says("안녕")
    await gate.open()
    assert await example.end() == (0, "".join(ANSWER) + "\n[completed]\n", "")
    assert ai.calls[-1].json["messages"][-1] == {"role": "user", "content": "뭐 해?"}


@pytest.mark.parametrize("name", [*NODE, *PYTHON])
async def test_ctrl_c_cancels_the_answer_on_the_real_service(service, ai, name):
    gate = Gate()
    ai.script(say("half ", "never", gate=gate))
    example = await start(name, service.url)
    await gate.release()
    await example.says("half")
    example.interrupt()
    code, said, errors = await example.end()
    assert (code, said, errors) == (0, "half \n[cancelled]\n", "")
    await ai.calls[-1].closed.wait()


@pytest.mark.parametrize("bytes_of_next", [0, 5, 46])
@pytest.mark.parametrize("name", [*NODE, *PYTHON])
async def test_an_example_goes_on_after_a_broken_connection(stub, name, bytes_of_next):
    stub.scripts.append(ANSWER)
    cuts = [Cut(2, bytes_of_next, when=asyncio.Event()), Cut(1, bytes_of_next, when=asyncio.Event())]
    stub.faults.extend([Cut(), *cuts])
    example = await start(name, stub.url)
    for number, cut in enumerate(cuts, 1):
        await example.says("".join(ANSWER[:number]))
        cut.when.set()
    assert await example.end() == (0, "".join(ANSWER) + "\n[completed]\n", "")
    message_id = stub.generations[0].identity.message_id
    resumed = [request.headers.get("last-event-id", "") for request in stub.sent("POST", "/stream")]
    assert resumed == ["", "", f"{message_id}:2", f"{message_id}:3"]
    assert len(stub.generations) == 1


@pytest.mark.parametrize("name", [*NODE, *PYTHON])
async def test_an_example_that_is_cut_within_a_replay_asks_for_no_second_answer(stub, name):
    """Found by an adversarial reader: three of four asked anew, and a failed answer was tried again."""
    stub.scripts.append(["half", FailureCode.AI_INCOMPLETE])
    cuts = [Cut(2, when=asyncio.Event()), Cut(2, when=asyncio.Event(), is_replay=True)]
    stub.faults.extend(cuts)
    example = await start(name, stub.url)
    await example.says("half")
    cuts[0].when.set()
    await example.says("halfhalf")
    cuts[1].when.set()
    code, said, _ = await example.end()
    assert (code, said) == (0, "halfhalfhalf\n[failed]\n")
    message_id = stub.generations[0].identity.message_id
    resumed = [request.headers.get("last-event-id", "") for request in stub.sent("POST", "/stream")]
    assert resumed == ["", f"{message_id}:2", f"{message_id}:start"]
    assert len(stub.generations) == 1


@pytest.mark.parametrize("name", [*NODE, *PYTHON])
async def test_an_example_says_why_an_answer_failed(stub, name):
    stub.scripts.append(["half", FailureCode.AI_INCOMPLETE])
    example = await start(name, stub.url)
    assert await example.end() == (0, "half\n[failed]\n", "\nThe answer was cut off.\n")


async def test_the_old_services_example_works_with_the_smallest_change(service, ai):
    ai.script(say(*ANSWER))
    example = await start(OLD, service.url)
    code, said, errors = await example.end()
    lines = "".join(
        f"AI Response: {json.dumps({'delta': d}, ensure_ascii=False, separators=(',', ':'))}\n" for d in ANSWER
    )
    assert (code, said, errors) == (0, lines, "")


async def test_the_old_services_cancel_works_unchanged(service, ai):
    gate = Gate()
    ai.script(say("half ", "never", gate=gate))
    example = await start(OLD, service.url)
    await gate.release()
    await example.says("half")
    example.interrupt()
    assert await example.end() == (0, 'AI Response: {"delta":"half "}\n', "")
    await ai.calls[-1].closed.wait()


def parts(output):
    """Return what the curl example printed under each of its headings."""
    return dict(re.findall(r"^--- (.*)\n((?:(?!---).*\n)*)", output, re.MULTILINE))


def deltas(lines):
    return "".join(json.loads(line)["delta"] for line in re.findall(r'^data: (\{"delta".*)$', lines, re.MULTILINE))


async def test_the_curl_example_streams_resumes_and_cancels(service, ai):
    gate = Gate()
    ai.script(say(*ANSWER), say(*ANSWER), say("half ", "never", gate=gate))
    example = await start("curl.sh", service.url)
    await example.says("--- cancelled")
    await gate.release()
    code, said, errors = await example.end()
    assert (code, errors) == (0, "")
    whole, broken, rest, cancelled = parts(said).values()
    assert deltas(whole) == "".join(ANSWER)
    assert whole.rstrip().splitlines()[-2].startswith('data: {"status":"completed"')
    assert deltas(broken) + deltas(rest) == "".join(ANSWER)
    assert deltas(broken) == ANSWER[0]
    assert deltas(cancelled) == "half "
    assert '"status":"cancelled"' in cancelled


async def test_the_browser_example_streams_resumes_and_cancels(stub):
    stub.scripts.extend([ANSWER, ["half ", asyncio.Event()]])
    stub.faults.extend([Cut(), Cut(2, 5), Cut(1, 46)])
    async with chromium() as browser, visiting(browser, stub.url) as visitor:
        page = await visitor.tab()
        await page.route("**/examples/fetch.js", lambda route: route.fulfill(path=EXAMPLES / "fetch.js"))
        await page.evaluate("async () => { window.example = await import('/examples/fetch.js'); window.shown = []; }")
        ask = "async () => example.ask(window.chatId, '안녕?', (text) => shown.push(text))"
        await page.evaluate("async () => { window.chatId = await example.createChat(); }")
        assert await page.evaluate(ask) == "completed"
        assert (await page.evaluate("shown"))[-1] == "".join(ANSWER)
        asking = asyncio.create_task(page.evaluate(ask))
        await until(lambda: page.evaluate("shown.at(-1) === 'half '"))
        assert (await page.evaluate("example.cancel(chatId)"))["status"] == "cancelled"
        assert await asking == "cancelled"
    assert len(stub.generations) == 2


def embedded(document):
    """Return the code blocks that a document marks as the content of a file, by the file's name."""
    pattern = r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```\n"
    return dict(re.findall(pattern, document, re.DOTALL))


async def test_the_document_holds_every_example_literally():
    found = embedded((ROOT / "docs" / "clients.md").read_text())
    assert set(found) == {f"examples/{name}" for name in ["curl.sh", "fetch.js", *NODE, *PYTHON, AI_SDK, OLD]}
    for name, text in found.items():
        assert text == (ROOT / name).read_text(), f"{name} differs from docs/clients.md"
