"""Invariant 16: whatever the text, and wherever the network splits it, real clients deliver identical text."""

import asyncio
import json

import httpx
import pytest
from httpx_sse import EventSource, aconnect_sse
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.domain.answer import Answer
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage
from chat.http.sse import COMMENT, HEADERS, encode_events
from tests.kit.node import EXAMPLES, ROOT, put, workshop

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients")]

MESSAGE = "0190a0b0-0000-7000-8000-000000000001"
IDENTITY = AnswerIds("0190a0b0-0000-7000-8000-000000000000", MESSAGE, "user-message", "session", "model")
NODE_CLIENTS = ["page", "eventsource-parser", "eventsource", "fetch-event-source"]
SPLIT_ANYWHERE = ["page, split anywhere", "eventsource-parser, split anywhere"]

HOSTILE = [
    "data: not mine\n\nevent: done\nid: 7\ndata: {}\n\n",
    ": a comment\r\rretry: 1\r\n\r\nid\n",
    " leading, trailing ",
    "\n",
    "\r",
    "\r\n",
    "line\u2028separator\u2029paragraph\u0085next\u000bvertical\u000cfeed\u001c\u001d\u001e",
    "nul \u0000 bell \u0007 escape \u001b delete \u007f",
    "\ufeffmark\ufeff",
    "안녕하세요! 값이 얼마예요? 뷁",
    "\u1112\u1161\u11ab\u1100\u1173\u11af 한글",
    "👩‍👩‍👧‍👦 👍🏽 🇰🇷 \U0010ffff \U0001f9ff",
    "e\u0301 \u202eright to left\u202c עברית العربية",
    '"quoted" \\n \\u0000 \\ud83d </script> [DONE] {"delta":"x"}',
    "\ufffd \uffff \ufffe \ud7ff \ue000",
    "x" * 500,
]


def answer(deltas):
    """Return the answer that says all this, and reasons and cites it."""
    said = Answer(IDENTITY)
    said.begin()
    for delta in deltas:
        said.append_text(delta)
    said.append_reasoning("".join(deltas))
    said.add_sources([Source("".join(deltas), "https://a.example/" + "".join(deltas))])
    said.end(Outcome(Status.FAILED, None, "ai_incomplete"), Usage(1, 2))
    return said


def expected(said):
    """Return what a client must deliver: id, name and data of each event."""
    numbers = [str(event.number) if event.number else "done" for event in said.events]
    return [[f"{MESSAGE}:{n}", e.name or "message", e.data] for n, e in zip(numbers, said.events, strict=True)]


class ByteServer:
    """Serves one body, each byte of it as an HTTP chunk of its own."""

    def __init__(self):
        self.body = b""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        headers = {**HEADERS, "transfer-encoding": "chunked", "connection": "close"}
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for byte in self.body:
            writer.write(b"1\r\n%c\r\n" % byte)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def server():
    async with ByteServer() as server:
        yield server


@pytest.fixture(scope="module")
def readers():
    folder = workshop()
    put(folder, ROOT / "tests" / "kit" / "sse_readers.mjs")
    put(folder, ROOT / "local" / "page" / "sse.js", to="sse.mjs")
    return folder / "sse_readers.mjs"


async def read_with(readers, client, url):
    process = await asyncio.create_subprocess_exec(
        "node", readers, client, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


def joined(events):
    return "".join(json.loads(data)["delta"] for _, name, data in events if name == "message")


@pytest.mark.parametrize("client", [*NODE_CLIENTS, *SPLIT_ANYWHERE])
async def test_clients_in_node_deliver_hostile_text_byte_by_byte(server, readers, client):
    said = answer(HOSTILE)
    server.body = COMMENT + encode_events(said.events[:5], MESSAGE) + COMMENT + encode_events(said.events[5:], MESSAGE)
    found = await read_with(readers, client, server.url)
    assert found == expected(said)
    assert joined(found) == "".join(HOSTILE)


async def test_httpx_sse_delivers_hostile_text_byte_by_byte(server):
    said = answer(HOSTILE)
    server.body = COMMENT + encode_events(said.events[:5], MESSAGE) + COMMENT + encode_events(said.events[5:], MESSAGE)
    async with httpx.AsyncClient() as client, aconnect_sse(client, "GET", server.url) as source:
        found = [[event.id, event.event, event.data] async for event in source.aiter_sse()]
    assert found == expected(said)
    assert joined(found) == "".join(HOSTILE)


class Pieces(httpx.SyncByteStream):
    def __init__(self, *pieces):
        self._pieces = pieces

    def __iter__(self):
        yield from self._pieces


def read_in_pieces(*pieces):
    response = httpx.Response(200, headers=HEADERS, stream=Pieces(*pieces))
    return [[event.id, event.event, event.data] for event in EventSource(response).iter_sse()]


def test_httpx_sse_delivers_hostile_text_split_in_two_anywhere():
    said = answer(HOSTILE[:-1])
    body = encode_events(said.events, MESSAGE)
    for at in range(len(body) + 1):
        assert read_in_pieces(body[:at], body[at:]) == expected(said), at


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1), st.integers(1, 7))
def test_any_text_survives_any_split(deltas, size):
    said = answer(deltas)
    body = encode_events(said.events, MESSAGE)
    found = read_in_pieces(*(body[at : at + size] for at in range(0, len(body), size)))
    assert found == expected(said)
    assert joined(found) == "".join(deltas)


# stream, events. Source: WHATWG HTML, section 9.2.6, its examples among them.
SPECIFICATION = {
    "lines of data": ("data: YHOO\ndata: +2\ndata: 10\n\n", [["", "message", "YHOO\n+2\n10"]]),
    "ids stay, and an empty one resets": (
        ": test stream\n\ndata: first event\nid: 1\n\ndata: second\n\ndata:third event\nid\n\ndata:  fourth\n\n",
        [
            [number, "message", data]
            for number, data in [("1", "first event"), ("1", "second"), ("", "third event"), ("", " fourth")]
        ],
    ),
    "empty data": ("data\n\ndata\ndata\n\ndata:", [["", "message", ""], ["", "message", "\n"]]),
    "an optional space": ("data:test\n\ndata: test\n\n", [["", "message", "test"]] * 2),
    "CRLF": ("event: a\r\ndata: 1\r\nid: x\r\n\r\ndata: 2\r\n\r\n", [["x", "a", "1"], ["x", "message", "2"]]),
    "CR": ("event: a\rdata: 1\r\rdata: 2\r\r", [["", "a", "1"], ["", "message", "2"]]),
    "line ends mixed": (
        "data: 1\r\ndata: 2\rdata: 3\n\r\ndata: 4\n\r",
        [["", "message", "1\n2\n3"], ["", "message", "4"]],
    ),
    "a byte order mark": ("\ufeffdata: 1\n\n\ufeffdata: 2\n\n", [["", "message", "1"]]),
    "a NUL in an id": ("id: 1\ndata: a\n\nid: 2\u00003\ndata: b\n\n", [["1", "message", "a"], ["1", "message", "b"]]),
    "an event without data, and the name it does not leave": (
        "event: a\nid: 1\n\ndata: b\n\n",
        [["1", "message", "b"]],
    ),
    "an end without an empty line": ("id: 1\ndata: a\n\nid: 2\ndata: lost\n", [["1", "message", "a"]]),
    "unknown fields": ("foo: 1\nDATA: 2\n data: 3\ndata: 4\nretry: soon\n\n", [["", "message", "4"]]),
}


@pytest.mark.parametrize("case", SPECIFICATION)
async def test_the_pages_reader_follows_the_specification_wherever_the_stream_is_split(server, readers, case):
    stream, events = SPECIFICATION[case]
    server.body = stream.encode()
    assert await read_with(readers, "page, split anywhere", server.url) == events


@pytest.mark.parametrize("client", NODE_CLIENTS)
async def test_60_kb_of_hangul_arrive_whole(server, readers, client):
    said = answer(["가나다라" * 5_000])
    server.body = encode_events(said.events[:2], MESSAGE) + encode_events(said.events[-1:], MESSAGE)
    found = await read_with(readers, client, server.url)
    assert joined(found) == "가나다라" * 5_000


def test_the_lock_file_names_no_registry():
    assert "resolved" not in (EXAMPLES / "package-lock.json").read_text()
