"""AIs that send without end, each in the smallest pieces that it can: the memory of the real process is the judge."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from httpx_sse import aconnect_sse

from tests.kit.ai_server import SSE, AIServer, Call, Script, chunk, event, say, text
from tests.kit.service import running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.xdist_group("floods")]

MAX_MORE_KIB = 16 << 10
"""What a flood may cost a process at its peak, beside what an answer costs anyway."""
DEVICE = {"X-User-Id": "user-1", "X-Session-Id": "phone"}


def endless(part: bytes, first: bytes = text("Hello"), headers: dict[str, str] = SSE) -> Script:
    """`first`, then `part` until the client goes away."""

    async def script(call: Call) -> None:
        await call.start(200, headers)
        await call.send(first)
        piece = part * max(1, 65_536 // len(part))
        while True:
            await call.send(piece)

    return script


def endless_raw(head: bytes, part: bytes) -> Script:
    """These bytes on the wire, the framing among them."""

    async def script(call: Call) -> None:
        await call.raw(head)
        piece = part * max(1, 65_536 // len(part))
        while True:
            await call.raw(piece)

    return script


def counting(make: Callable[[int], bytes]) -> Script:
    """Pieces that differ, hundreds in each write, until the client goes away."""

    async def script(call: Call) -> None:
        await call.start()
        await call.send(text("Hello"))
        number = 0
        while True:
            await call.send(b"".join(make(number + at) for at in range(200)))
            number += 200

    return script


def source(number: int) -> bytes:
    return event(chunk({"annotations": [{"type": "url_citation", "url": f"https://a.example/{number}"}]}))


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HELLO_CHUNK = b"%x\r\n%b\r\n" % (len(text("Hello")), text("Hello"))
GZIP = {**SSE, "content-encoding": "gzip"}
TOOL_CALL = event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}))
OTHER_CHOICE = event({"choices": [{"index": 1, "delta": {"content": "x"}}]})

INVALID, INCOMPLETE = "ai_invalid", "ai_incomplete"
FLOODS: dict[str, tuple[Script, str]] = {
    "data lines that are empty": (endless(b"data:\n"), INVALID),
    "a line that does not end": (endless(b"x"), INVALID),
    "comments": (endless(b":\n"), INVALID),
    "empty lines": (endless(b"\n"), INVALID),
    "ids": (endless(b"id:1\n"), INVALID),
    "events that say nothing": (endless(b"data:{}\n\n"), INVALID),
    "usage that changes": (counting(lambda n: event({"usage": {"prompt_tokens": n, "completion_tokens": n}})), INVALID),
    "calls of a tool": (endless(TOOL_CALL), INVALID),
    "other choices": (endless(OTHER_CHOICE), INVALID),
    "deep JSON": (endless(b"data: " + b"[" * 990 + b"]" * 990 + b"\n\n"), INVALID),
    "sources": (counting(source), INVALID),
    "text, a character at a time": (endless(text("x")), INVALID),
    "trailers": (endless_raw(HEAD + HELLO_CHUNK + b"0\r\n", b"a: b\r\n"), INCOMPLETE),
    "a chunk extension": (endless_raw(HEAD + HELLO_CHUNK + b"1;", b"x"), INCOMPLETE),
    "chunks of one byte": (endless_raw(HEAD + HELLO_CHUNK, b"1\r\n\n\r\n"), INVALID),
    "compressed zeros": (endless(gzip.compress(b"\n" * (64 << 20)), gzip.compress(text("Hello")), GZIP), INVALID),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ai() -> AsyncIterator[AIServer]:
    async with AIServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(ai):
    loop = asyncio.get_running_loop()
    context = running({"OPENAI_BASE_URL": ai.url, "CHAT_MESSAGES_PER_MINUTE": "0"})
    yield await loop.run_in_executor(None, context.__enter__)
    await loop.run_in_executor(None, context.__exit__, None, None, None)


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def answer(client: httpx.AsyncClient) -> tuple[str, dict[str, object]]:
    """Ask, and return what was said and how it ended."""
    chat_id = (await client.post("/api/chat/create", headers=DEVICE)).json()["chatId"]
    said, failure = [], {}
    body = {"content": "Hi"}
    async with aconnect_sse(client, "POST", f"/api/chat/{chat_id}/stream", json=body, headers=DEVICE) as source:
        async for got in source.aiter_sse():
            if got.event == "message":
                said.append(json.loads(got.data)["delta"])
            elif got.event == "failure":
                failure = json.loads(got.data)
    return "".join(said), failure


@pytest.mark.skipif(os.name != "posix" or not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", FLOODS)
async def test_an_ai_that_sends_without_end_is_left_at_a_bound(ai, service, name):
    script, code = FLOODS[name]
    async with httpx.AsyncClient(base_url=service.url, timeout=90) as client:
        ai.default = say("Hello", " world")
        await answer(client)
        [pid] = service.pids("-m lambda_stream")
        forget_peak(pid)
        before = peak_kib(pid)
        ai.default = script
        said, failure = await answer(client)
        more = peak_kib(pid) - before
    assert failure["code"] == code
    assert said.startswith("Hello")
    assert more < MAX_MORE_KIB, f"{more} KiB more"
