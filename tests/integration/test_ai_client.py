"""Asking an AI over a real connection: every fault that can be scripted, on the lean transport and on httpx's own."""

import asyncio
import email.utils
import gzip
import logging
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from chat.adapters.llm.retries import MAX_PAUSE_SECONDS
from chat.ai_settings import ModelSettings, ProviderSettings
from chat.application.ports import Finish, ReasoningDelta, SourcesAdded, TextDelta
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import Source, Usage
from chat.environment import Secret
from tests.kit import ai_server
from tests.kit.ai_client import KEY, MODEL, SETTINGS, TRANSPORTS, TURNS, asking, asking_all, joined
from tests.kit.ai_server import DONE, AIServer, Call, Gate, Script, body, chunk, event, finish, say, status, text

HELLO = "Hello world"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> httpx.AsyncBaseTransport:
    return TRANSPORTS[request.param]()


@pytest.fixture
async def server() -> AsyncIterator[AIServer]:
    async with AIServer() as running:
        yield running


# What is asked


async def test_the_request_says_all_that_is_asked_for(server: AIServer, transport: httpx.AsyncBaseTransport):
    async with asking(server.url, transport) as asked:
        assert await asked.text() == HELLO
    [call] = server.calls
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.json == {
        "model": "some-model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "안녕 👋"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
    }
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["host"] == f"127.0.0.1:{server.port}"
    assert call.headers["accept-encoding"] == "identity"


async def test_without_a_key_nothing_is_said_of_one(server: AIServer, transport: httpx.AsyncBaseTransport):
    async with asking(server.url, transport, api_key=None) as asked:
        assert await asked.text() == HELLO
    assert "authorization" not in server.calls[0].headers


@pytest.mark.parametrize(
    ("suffix", "path"),
    [("/", "/v1/chat/completions"), ("/d%20e?api-version=1&x=%2F", "/v1/d%20e/chat/completions?api-version=1&x=%2F")],
)
async def test_the_base_url_may_end_in_a_slash_or_a_query(
    server: AIServer, transport: httpx.AsyncBaseTransport, suffix: str, path: str
):
    async with asking(server.url + suffix, transport) as asked:
        assert await asked.text() == HELLO
    assert server.calls[0].path == path


# What comes


async def test_everything_of_an_answer_arrives_in_order(server: AIServer, transport: httpx.AsyncBaseTransport):
    annotation = {"type": "url_citation", "url_citation": {"url": "https://a/", "title": "A"}}
    parts = [
        event(chunk({"reasoning": "Hm"})),
        text("안"),
        text("녕"),
        event(chunk({"annotations": [annotation]})),
        finish("length"),
        ai_server.usage(3, 4),
    ]
    server.script(body(*parts, DONE))
    async with asking(server.url, transport) as asked:
        assert await asked.collect() == (
            [
                ReasoningDelta("Hm"),
                TextDelta("안"),
                TextDelta("녕"),
                SourcesAdded((Source("A", "https://a/"),)),
                Finish("length"),
                Usage(3, 4),
            ],
            None,
        )


async def test_each_read_from_the_network_is_one_batch_delivered_at_once(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    gate = Gate()
    server.script(body(text("a"), text("b") + text("c"), finish() + DONE, gate=gate))
    async with asking(server.url, transport) as asked, aclosing(asked.ai.answer(TURNS, 100, "some-model")) as batches:
        for expected in [[TextDelta("a")], [TextDelta("b"), TextDelta("c")], [Finish("stop")]]:
            waiting = asyncio.ensure_future(anext(batches))
            await gate.reached()
            assert not waiting.done()
            await gate.release()
            assert await waiting == expected


def encoded_as(coding: str, *parts: bytes) -> Script:
    return body(*parts, headers={"content-type": "text/event-stream", "content-encoding": coding})


BODIES: dict[str, Script] = {
    "chunked": body(text("Hello"), text(" world"), finish(), DONE),
    "until the connection ends": body(text("Hello"), text(" world"), finish(), DONE, framing="close"),
    "compressed": ai_server.gzip(text("Hello"), text(" world"), finish(), DONE),
    "byte by byte": body(*(bytes([byte]) for byte in text("Hello world") + finish() + DONE)),
    "without [DONE]": say("Hello", " world", with_done=False),
    "without usage": say("Hello", " world", with_usage=False),
    "with another content type": body(text(HELLO), finish(), headers={"content-type": "text/plain"}),
    "without a content type": body(text(HELLO), finish(), headers={}),
    "with status 201": say("Hello", " world", code=201),
    "after an interim response": ai_server.exactly(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
        text(HELLO) + finish(),
    ),
    "with chunk extensions and trailers": ai_server.exactly(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n",
        b"%x;name=value\r\n" % len(text(HELLO) + finish()) + text(HELLO) + finish() + b"\r\n0\r\nx: y\r\n\r\n",
    ),
    "with chunk sizes followed by spaces": ai_server.exactly(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"%x  \r\n" % len(text("Hello")) + text("Hello") + b"\r\n",
        b"%x   \r\n" % len(text(" world") + finish()) + text(" world") + finish() + b"\r\n0\r\n\r\n",
    ),
    "compressed in several members": encoded_as(
        "gzip", *map(gzip.compress, (text("Hello")[:7], text("Hello")[7:], text(" world") + finish()))
    ),
    "compressed and padded": encoded_as("gzip", gzip.compress(text(HELLO) + finish()) + bytes(100)),
    "compressed as deflate": encoded_as("deflate", zlib.compress(text(HELLO) + finish())),
    "compressed as deflate without a header": encoded_as("deflate", zlib.compress(text(HELLO) + finish(), wbits=-15)),
    "encoded as it is": encoded_as("identity", text(HELLO) + finish()),
    "of HTTP/1.0": ai_server.exactly(b"HTTP/1.0 200 OK\r\n\r\n", text(HELLO) + finish()),
    "with a head byte by byte": ai_server.exactly(
        *(bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        text(HELLO) + finish(),
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_read_however_it_is_framed(server: AIServer, transport: httpx.AsyncBaseTransport, name: str):
    server.script(BODIES[name])
    async with asking(server.url, transport) as asked:
        assert await asked.text() == HELLO
    assert len(server.calls) == 1


async def test_a_chunk_extension_may_follow_white_space(server: AIServer):
    """RFC 9112, section 7.1.1; httpx's own transport does not allow it."""
    data = text(HELLO) + finish()
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    server.script(ai_server.exactly(head, b"%x ;x=1\r\n" % len(data) + data + b"\r\n0\r\n\r\n"))
    async with asking(server.url) as asked:
        assert await asked.text() == HELLO


async def test_a_whole_json_answer_is_one_delta(server: AIServer, transport: httpx.AsyncBaseTransport):
    choice = {"index": 0, "message": {"role": "assistant", "content": HELLO}, "finish_reason": "stop"}
    server.script(status(200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
    async with asking(server.url, transport) as asked:
        assert await asked.collect() == ([TextDelta(HELLO), Finish("stop"), Usage(3, 4)], None)


# What fails


def open_ended(*parts: bytes) -> Script:
    """Exactly these bytes, and then nothing until the client goes away."""

    async def script(call: ai_server.Call) -> None:
        for part in parts:
            await call.raw(part)
        await call.closed.wait()

    return script


FAILURES: dict[str, tuple[Script, str, FailureCode]] = {
    "400": (status(400), "", FailureCode.AI_REJECTED),
    "401": (status(401), "", FailureCode.AI_REJECTED),
    "402": (status(402), "", FailureCode.AI_REJECTED),
    "403": (status(403), "", FailureCode.AI_REJECTED),
    "404": (status(404), "", FailureCode.AI_REJECTED),
    "409": (status(409), "", FailureCode.AI_REJECTED),
    "413": (status(413), "", FailureCode.AI_REJECTED),
    "422": (status(422), "", FailureCode.AI_REJECTED),
    "HTML with 404": (ai_server.html(404), "", FailureCode.AI_REJECTED),
    "a redirect": (status(307, location="/v1/chat/completions"), "", FailureCode.AI_REJECTED),
    "no response, connection closed": (ai_server.exactly(), "", FailureCode.AI_UNAVAILABLE),
    "no response, connection reset": (ai_server.reset(with_head=False), "", FailureCode.AI_UNAVAILABLE),
    "half a head": (ai_server.exactly(b"HTTP/1.1 200 OK\r\ncontent"), "", FailureCode.AI_UNAVAILABLE),
    "no HTTP": (ai_server.exactly(b"SECRET\r\n\r\n"), "", FailureCode.AI_UNAVAILABLE),
    "another protocol": (
        ai_server.exactly(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "",
        FailureCode.AI_UNAVAILABLE,
    ),
    "a head without an end": (
        open_ended(b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"SECRET" * 1000 + b"\r\n"] * 40),
        "",
        FailureCode.AI_UNAVAILABLE,
    ),
    "HTML with 200": (ai_server.html(), "", FailureCode.AI_INVALID),
    "nonsense": (body(b"data: SECRET\n\n" + DONE), "", FailureCode.AI_INVALID),
    "a body that is not compressed as it says": (
        body(b"SECRET", headers={"content-encoding": "gzip"}),
        "",
        FailureCode.AI_INVALID,
    ),
    "a body compressed as nobody asked": (encoded_as("br", text("Hello")), "", FailureCode.AI_INVALID),
    "a body compressed twice": (encoded_as("gzip, gzip", text("Hello")), "", FailureCode.AI_INVALID),
    "a compressed body that is cut": (
        encoded_as("gzip", gzip.compress(text("Hello") + finish())[:20]),
        "",
        FailureCode.AI_INVALID,
    ),
    "an empty body": (status(204, ""), "", FailureCode.AI_INCOMPLETE),
    "an error under 200": (body(event({"error": {"message": "SECRET"}})), "", FailureCode.AI_ERROR),
    "an error under 200, as JSON": (status(200), "", FailureCode.AI_ERROR),
    "an error after text": (body(text("Hello") + event({"error": {"code": 1}})), "Hello", FailureCode.AI_ERROR),
    "finish reason error": (say("Hello", reason="error"), "Hello", FailureCode.AI_ERROR),
    "no finish reason": (say("Hello", reason=None), "Hello", FailureCode.AI_INCOMPLETE),
    "neither finish reason nor [DONE]": (body(text("Hello")), "Hello", FailureCode.AI_INCOMPLETE),
    "cut after the head": (ai_server.cut(), "", FailureCode.AI_INCOMPLETE),
    "cut within a body": (ai_server.cut(text("Hello")), "Hello", FailureCode.AI_INCOMPLETE),
    "cut within an event": (ai_server.cut(text("Hello") + text("!")[:-9]), "Hello", FailureCode.AI_INCOMPLETE),
    "a chunk that is none": (
        ai_server.exactly(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"SECRET\r\n"),
        "",
        FailureCode.AI_INCOMPLETE,
    ),
    "a JSON answer that is cut": (
        ai_server.exactly(b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"choices": [{"mess'),
        "",
        FailureCode.AI_INCOMPLETE,
    ),
    "a line without an end": (body(*[b"SECRET!!" * (1 << 17)] * 5), "", FailureCode.AI_INVALID),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_has_its_code_keeps_what_came_and_is_not_sent_twice(
    server: AIServer, transport: httpx.AsyncBaseTransport, name: str, caplog: pytest.LogCaptureFixture
):
    script, kept, code = FAILURES[name]
    server.script(script)
    with caplog.at_level(logging.DEBUG, logger="chat"):
        async with asking(server.url, transport) as asked:
            pieces, failure = await asked.collect()
    assert (joined(pieces), failure) == (kept, code)
    assert len(server.calls) == 1
    assert asked.pauses == []
    assert "SECRET" not in caplog.text
    await server.has_connections(0)


async def test_a_reset_within_the_body_fails_with_what_came_before(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    gate = Gate()

    async def script(call: ai_server.Call) -> None:
        await call.start()
        await call.send(text("Hello"))
        await gate.pass_through()
        call.reset()

    server.script(script)
    async with asking(server.url, transport) as asked, aclosing(asked.ai.answer(TURNS, 100, "some-model")) as batches:
        assert await anext(batches) == [TextDelta("Hello")]
        await gate.release()
        with pytest.raises(Exception, match="ai_incomplete"):
            await anext(batches)
    assert len(server.calls) == 1


async def test_nothing_of_the_key_or_the_services_words_is_in_the_error(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    server.script(status(401))
    async with asking(server.url, transport) as asked:
        with pytest.raises(Exception, match="status 401") as caught:
            await anext(asked.ai.answer(TURNS, 100, "some-model"))
    chain = [caught.value, caught.value.__cause__]
    assert not any("SECRET" in f"{error!r} {vars(error)}" for error in chain if error is not None)


# What is tried again


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (408, FailureCode.AI_UNAVAILABLE),
        (429, FailureCode.AI_RATE_LIMITED),
        *((code, FailureCode.AI_UNAVAILABLE) for code in (500, 502, 503, 504, 529)),
    ],
)
async def test_what_may_pass_is_tried_again_so_often_and_no_oftener(
    server: AIServer,
    transport: httpx.AsyncBaseTransport,
    code: int,
    failure: FailureCode,
    caplog: pytest.LogCaptureFixture,
):
    server.script(status(code), status(code), say("Hello", " world"), status(code), status(code), status(code))
    with caplog.at_level(logging.DEBUG, logger="chat"):
        async with asking(server.url, transport) as asked:
            assert await asked.text() == HELLO
            first, second = asked.pauses
            assert 0 < first < second < 2
            assert await asked.collect() == ([], failure)
    assert (len(server.calls), len(asked.pauses)) == (6, 4)
    assert "SECRET" not in caplog.text


async def test_an_answer_that_is_refused_is_closed_before_the_next_try(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    refusal = open_ended(b"HTTP/1.1 503 No\r\ncontent-length: 99\r\n\r\n")
    server.script(refusal)
    async with asking(server.url, transport) as asked:
        assert await asked.text() == HELLO
        await server.calls[0].closed.wait()


async def test_with_no_retries_nothing_is_tried_again(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(status(503))
    async with asking(server.url, transport, max_retries=0) as asked:
        assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [
        (lambda: "3", 3, 3),
        (lambda: "0", 0, 0),
        (lambda: "2.5", 2.5, 2.5),
        (lambda: email.utils.formatdate(time.time() + 6, usegmt=True), 0, 6),
        (lambda: email.utils.formatdate(0, usegmt=True), 0, 0),
        (lambda: "soon", 0.1, 1),
        (lambda: "-1", 0.1, 1),
        (lambda: "1.2.3", 0.1, 1),
        (lambda: "inf", 0.1, 1),
        (lambda: "", 0.1, 1),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
async def test_the_pause_that_a_service_asks_for_is_made(
    server: AIServer,
    transport: httpx.AsyncBaseTransport,
    code: int,
    wish: Callable[[], str],
    low: float,
    high: float,
):
    server.script(status(code, Retry_After=wish()))
    async with asking(server.url, transport) as asked:
        assert await asked.text() == HELLO
    [pause] = asked.pauses
    assert low <= pause <= high


@pytest.mark.parametrize(
    "wish",
    [
        lambda: f"{MAX_PAUSE_SECONDS + 1:.0f}",
        lambda: "99999999999999999999",
        lambda: email.utils.formatdate(time.time() + 3600),
    ],
    ids=["seconds", "ages", "date"],
)
async def test_a_pause_that_is_too_long_is_a_failure_at_once(
    server: AIServer, transport: httpx.AsyncBaseTransport, wish: Callable[[], str]
):
    server.script(status(429, Retry_After=wish()))
    async with asking(server.url, transport) as asked:
        assert await asked.collect() == ([], FailureCode.AI_RATE_LIMITED)
    assert (len(server.calls), asked.pauses) == (1, [])


async def test_a_service_that_refuses_connections_is_tried_again(transport: httpx.AsyncBaseTransport):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with asking(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", transport) as asked:
            assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)
    assert len(asked.pauses) == 2


async def test_a_service_whose_name_is_unknown_is_unavailable(transport: httpx.AsyncBaseTransport):
    async with asking("http://no-such-host.invalid/v1", transport, max_retries=0) as asked:
        assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)


async def test_a_connection_that_cannot_be_made_in_time_is_given_up(transport: httpx.AsyncBaseTransport):
    """A full backlog: the kernel leaves further connections unanswered."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        async with asking(url, transport, first_token_timeout_seconds=0.2, max_retries=1) as asked:
            _, failure = await asked.collect()
    assert failure in (FailureCode.AI_UNAVAILABLE, FailureCode.AI_TIMEOUT)


async def test_an_old_server_is_asked_again_without_stream_options_and_then_never_with_them(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    server.script(status(400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}))
    async with asking(server.url, transport, max_retries=0) as asked:
        assert [await asked.text(), await asked.text()] == [HELLO, HELLO]
    assert ["stream_options" in call.json for call in server.calls] == [True, False, False]
    assert asked.pauses == []


async def test_a_server_that_wants_max_completion_tokens_gets_it(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(status(400, {"error": {"message": "'max_tokens' is not supported: use 'max_completion_tokens'"}}))
    async with asking(server.url, transport, max_retries=0) as asked:
        assert [await asked.text(), await asked.text()] == [HELLO, HELLO]
    sent = [(call.json.get("max_tokens"), call.json.get("max_completion_tokens")) for call in server.calls]
    assert sent == [(100, None), (None, 100), (None, 100)]


async def test_a_server_that_wants_neither_is_asked_three_times_in_all(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    complaint = status(422, {"detail": "extra inputs: stream_options, max_tokens, SECRET"})
    server.script(complaint, complaint, complaint)
    async with asking(server.url, transport) as asked:
        assert await asked.collect() == ([], FailureCode.AI_REJECTED)
        assert await asked.text() == HELLO
    names = [{"stream_options", "max_tokens", "max_completion_tokens"} & call.json.keys() for call in server.calls]
    usual = {"stream_options", "max_tokens"}
    assert names == [usual, {"max_tokens"}, {"max_completion_tokens"}, usual], "what did not help is not kept"


@pytest.mark.parametrize(
    "complaint",
    [
        "Unsupported parameter: 'max_completion_tokens' is not supported with this model. Use 'max_tokens' instead.",
        "max_completion_tokens: Extra inputs are not permitted",
        "Extra inputs are not permitted",
        "Unsupported parameter",
    ],
)
@pytest.mark.parametrize("code", [400, 422])
async def test_what_a_model_was_found_to_take_is_forgotten_when_it_is_refused(
    server: AIServer, transport: httpx.AsyncBaseTransport, complaint: str, code: int
):
    refused = {"wanted": "max_completion_tokens", "other": "max_tokens"}

    async def script(call: Call) -> None:
        if refused["other"] in call.json:
            return await status(code, {"detail": complaint.replace("max_completion_tokens", refused["other"])})(call)
        return await say("Hello", " world")(call)

    server.default = script
    async with asking(server.url, transport, max_retries=0) as asked:
        assert await asked.text() == HELLO
        refused["other"] = "max_completion_tokens"  # another version of the server, or of the model
        assert await asked.text() == HELLO
        refused["other"] = "max_tokens"
        assert await asked.text() == HELLO
    assert len(server.calls) <= 3 * 4, "nothing is tried in a circle"


async def test_a_refusal_that_nothing_mends_ends_and_the_next_answer_begins_afresh(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    learnt = status(400, {"error": {"message": "use max_completion_tokens in place of max_tokens"}})
    server.script(learnt, say("Hello", " world"), *[status(400, {"error": "Unsupported parameter"})] * 4)
    async with asking(server.url, transport) as asked:
        assert await asked.text() == HELLO
        assert await asked.collect() == ([], FailureCode.AI_REJECTED)
        assert await asked.text() == HELLO
    assert len({call.body for call in server.calls[2:6]}) == 4
    assert "max_tokens" in server.calls[6].json


async def test_each_model_has_what_was_found_for_it_alone(server: AIServer, transport: httpx.AsyncBaseTransport):
    """One that wants `max_completion_tokens` changes nothing for one that refuses it, at the same address."""

    async def script(call: Call) -> None:
        wanted, other = ("max_completion_tokens", "max_tokens")[:: 1 if call.json["model"] == "new" else -1]
        if other in call.json:
            return await status(400, {"error": {"message": f"Unsupported parameter: {other}"}})(call)
        assert wanted in call.json
        return await say("Hello", " world")(call)

    server.default = script
    provider = replace(MODEL.provider, base_url=server.url)
    models = tuple(ModelSettings(name, provider, name) for name in ("new", "old"))
    async with asking_all(replace(SETTINGS, catalog=models), transport) as asked:
        for name in ("new", "old", "new", "old"):
            assert await asked.text(name) == HELLO
    assert [call.json["model"] for call in server.calls] == ["new", "new", "old", "new", "old"]


async def test_the_operators_body_is_laid_into_each_request_and_its_limit_of_tokens_is_the_only_one(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    body = {"temperature": 0.5, "max_completion_tokens": 9}
    async with asking(server.url, transport, name="other", body=body) as asked:
        assert await asked.text() == HELLO
    sent = server.calls[0].json
    assert (sent["model"], sent["temperature"], sent["max_completion_tokens"]) == ("other", 0.5, 9)
    assert "max_tokens" not in sent


async def test_a_member_of_the_operators_that_is_refused_is_no_reason_to_try_others(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    server.default = status(400, {"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}})
    async with asking(server.url, transport, body={"temperature": 2}) as asked:
        assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    assert len(server.calls) == 1


async def test_headers_of_the_operator_are_sent(server: AIServer, transport: httpx.AsyncBaseTransport):
    async with asking(server.url, transport, api_key=None, headers=(("api-key", Secret("azure")),)) as asked:
        assert await asked.text() == HELLO
    assert server.calls[0].headers["api-key"] == "azure"
    assert "authorization" not in server.calls[0].headers


async def test_two_providers_share_nothing():
    """Neither connections, nor keys, nor what was learnt or renewed; not even at one address."""

    async def renew() -> Secret:
        return Secret("renewed")

    async with AIServer() as server:

        async def script(call: Call) -> None:
            if call.headers["authorization"] == "Bearer key-a":
                return await status(401)(call)
            return await say("Hello", " world")(call)

        server.default = script
        models = tuple(
            ModelSettings(name, ProviderSettings(server.url, Secret(f"key-{name}"), key_setting=f"KEY_{name}"), name)
            for name in ("a", "b")
        )
        async with asking_all(replace(SETTINGS, catalog=models), None, renew) as asked:
            assert [await asked.text("a"), await asked.text("b"), await asked.text("a")] == [HELLO] * 3
            assert asked.renewed == ["KEY_a"]
        keys = [call.headers["authorization"].removeprefix("Bearer ") for call in server.calls]
        assert keys == ["key-a", "renewed", "key-b", "renewed"]
        of_b = server.calls[2].connection
        assert of_b not in {call.connection for call in server.calls if call is not server.calls[2]}


async def test_a_refused_key_is_named_once_for_the_operator(
    server: AIServer, transport: httpx.AsyncBaseTransport, caplog: pytest.LogCaptureFixture
):
    server.default = status(401)
    async with asking(server.url, transport, key_setting="CHAT_MODELS[1].apiKey") as asked:
        for _ in range(2):
            assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    notices = [record for record in caplog.records if getattr(record, "notice", False)]
    assert [notice.message for notice in notices] == ["the AI refused the key (401): check CHAT_MODELS[1].apiKey"]


async def test_an_error_of_the_service_is_not_called_unreachable(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.default = status(503)
    async with asking(server.url, transport, max_retries=0) as asked:
        with pytest.raises(AnswerFailed) as caught:
            await anext(asked.ai.answer(TURNS, 100, "some-model"))
    assert (caught.value.code, caught.value.message) == (
        FailureCode.AI_UNAVAILABLE,
        "The AI service answered with an error (503).",
    )


@pytest.mark.parametrize("url", ["http://ai.example/v1", "https://ai.example/v1"])
async def test_a_proxy_that_cannot_be_reached_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str
):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    variable = url.partition(":")[0].upper() + "_PROXY"
    monkeypatch.setenv(variable, f"http://user:SECRET@127.0.0.1:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with asking(url, max_retries=0) as asked:
        with pytest.raises(AnswerFailed) as caught:
            await anext(asked.ai.answer(TURNS, 100, "some-model"))
    assert caught.value.message == "The AI service cannot be reached through the proxy in between."
    assert variable in caplog.text
    assert "SECRET" not in caplog.text + caught.value.detail


async def test_a_refused_key_is_fetched_anew_once(server: AIServer, transport: httpx.AsyncBaseTransport):
    fetched: list[Secret] = []

    async def renew() -> Secret:
        fetched.append(Secret(f"new-{len(fetched)}"))
        return fetched[-1]

    server.script(status(401), say("Hello", " world"), status(401), status(401))
    async with asking(server.url, transport, renew) as asked:
        assert await asked.text() == HELLO
        assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    keys = [call.headers["authorization"].removeprefix("Bearer ") for call in server.calls]
    assert keys == [KEY, "new-0", "new-0", "new-1"]


async def test_a_key_that_another_answer_has_renewed_meanwhile_is_tried(
    server: AIServer, transport: httpx.AsyncBaseTransport
):
    """Both were under way with the old key when it was replaced."""
    both = asyncio.Barrier(2)

    async def renew() -> Secret:
        return Secret("new")

    async def script(call: Call) -> None:
        if call.headers["authorization"] == "Bearer new":
            return await say("Hello", " world")(call)
        await both.wait()
        return await status(401)(call)

    server.default = script
    async with asking(server.url, transport, renew) as asked, asyncio.timeout(10):
        assert await asyncio.gather(asked.text(), asked.text()) == [HELLO, HELLO]


async def test_a_key_that_did_not_change_is_not_tried_again(server: AIServer, transport: httpx.AsyncBaseTransport):
    async def renew() -> Secret:
        return Secret(KEY)

    server.script(status(401))
    async with asking(server.url, transport, renew) as asked:
        assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    assert len(server.calls) == 1


@pytest.mark.parametrize("key", ["sk-SECRET\r\nx-evil: 1", "sk-SECRET\nx", "sk-SECRET\x00"])
async def test_a_key_that_would_be_two_headers_is_not_sent(transport: httpx.AsyncBaseTransport, key: str):
    async with AIServer() as server:
        async with asking(server.url, transport, api_key=Secret(key)) as asked:
            assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)
        assert server.calls == []


# Silence


async def pace() -> None:
    await asyncio.sleep(0.01)  # between two keep-alives; nothing waits for it


SILENCES: dict[str, tuple[Script, str, FailureCode | None]] = {
    "no status line": (ai_server.mute(), "", FailureCode.AI_TIMEOUT),
    "a head and nothing else": (ai_server.silent(), "", FailureCode.AI_TIMEOUT),
    "a role and nothing else": (ai_server.silent(event(chunk({"role": "assistant"}))), "", FailureCode.AI_TIMEOUT),
    "keep-alives and nothing else": (ai_server.only_keep_alives(tick=pace), "", FailureCode.AI_TIMEOUT),
    "text, then nothing": (ai_server.silent(text("Hello")), "Hello", FailureCode.AI_TIMEOUT),
    "text, then keep-alives": (ai_server.only_keep_alives(text("Hello"), tick=pace), "Hello", FailureCode.AI_TIMEOUT),
    "half an event": (ai_server.silent(text("Hello") + text("!")[:-1]), "Hello!", FailureCode.AI_TIMEOUT),
    "finish, then nothing": (ai_server.silent(text("Hello") + finish()), "Hello", None),
    "finish, then keep-alives": (ai_server.only_keep_alives(text("Hello"), finish(), tick=pace), "Hello", None),
    "[DONE], then nothing": (ai_server.silent(text("Hello") + finish() + DONE), "Hello", None),
    "[DONE], then keep-alives": (
        ai_server.only_keep_alives(text("Hello"), finish() + DONE, tick=pace),
        "Hello",
        None,
    ),
    "[DONE], then more": (ai_server.only_keep_alives(finish() + DONE, text("no"), tick=pace), "", None),
    "an error, then keep-alives": (
        ai_server.only_keep_alives(text("Hello"), event({"error": {"code": 1}}), tick=pace),
        "Hello",
        FailureCode.AI_ERROR,
    ),
    "[DONE] without finish, then nothing": (ai_server.silent(text("Hi") + DONE), "Hi", FailureCode.AI_INCOMPLETE),
}


@pytest.mark.parametrize("name", SILENCES)
async def test_silence_ends_and_keep_alives_do_not_break_it(
    server: AIServer, transport: httpx.AsyncBaseTransport, name: str
):
    """Invariant 14."""
    script, kept, code = SILENCES[name]
    server.script(script)
    says_something = kept or code is not FailureCode.AI_TIMEOUT
    times = {"first_token_timeout_seconds": 10 if says_something else 0.3, "stall_timeout_seconds": 0.5}
    async with asking(server.url, transport, **times) as asked:
        pieces, failure = await asked.collect()
    assert (joined(pieces), failure) == (kept, code)
    await server.calls[0].closed.wait()
    assert len(server.calls) == 1


async def test_each_kind_of_silence_has_its_own_limit(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(ai_server.mute(), ai_server.silent(text("Hello")))
    async with asking(server.url, transport, first_token_timeout_seconds=0.2, stall_timeout_seconds=1000) as asked:
        assert await asked.collect() == ([], FailureCode.AI_TIMEOUT)
    async with asking(server.url, first_token_timeout_seconds=1000, stall_timeout_seconds=0.2) as asked:
        assert await asked.collect() == ([TextDelta("Hello")], FailureCode.AI_TIMEOUT)


# Leaving early


async def test_leaving_an_answer_closes_its_connection_at_once(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(ai_server.silent(text("Hello")))
    async with asking(server.url, transport) as asked:
        async with aclosing(asked.ai.answer(TURNS, 100, "some-model")) as batches:
            assert await anext(batches) == [TextDelta("Hello")]
            assert not server.calls[0].closed.is_set()
        await server.calls[0].closed.wait()


STAGES: dict[str, Callable[[Gate], Script]] = {
    "before the head": lambda gate: ai_server.slow_head(gate, say("Hello")),
    "before the first token": lambda gate: say("Hello", gate=gate),
    "between tokens": lambda gate: body(text("Hello"), text("!"), gate=gate),
    "while a complaint comes": lambda gate: complaint_without_end(gate),
}


def complaint_without_end(gate: Gate) -> Script:
    async def script(call: ai_server.Call) -> None:
        await call.start(400)
        await gate.pass_through()

    return script


@pytest.mark.parametrize("stage", STAGES)
async def test_cancelling_closes_the_connection_at_once(
    server: AIServer, transport: httpx.AsyncBaseTransport, stage: str
):
    gate = Gate()
    server.script(STAGES[stage](gate))
    async with asking(server.url, transport) as asked:
        task = asyncio.ensure_future(asked.collect())
        if stage == "between tokens":
            await gate.release()
        await gate.reached()
        task.cancel()
        await server.calls[0].closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.has_connections(0)
    assert len(server.calls) == 1


async def test_a_time_limit_of_the_callers_own_passes_through(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(ai_server.silent(text("Hello")))
    async with asking(server.url, transport) as asked:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as scope:
                async for _ in asked.ai.answer(TURNS, 100, "some-model"):
                    scope.reschedule(0)
        await server.calls[0].closed.wait()


async def test_cancelling_between_two_tries_ends_them(server: AIServer, transport: httpx.AsyncBaseTransport):
    server.script(status(503, Retry_After="9"))
    pausing = asyncio.Event()

    async def pause(seconds: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    async with asking(server.url, transport) as asked:
        asked.make_pauses(pause)
        task = asyncio.ensure_future(asked.collect())
        await pausing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(server.calls) == 1


async def test_many_answers_at_once_do_not_mix(server: AIServer, transport: httpx.AsyncBaseTransport):
    async def script(call: ai_server.Call) -> None:
        await say(*(f"{call.connection}," for _ in range(20)))(call)

    server.default = script
    async with asking(server.url, transport) as asked:
        texts = await asyncio.gather(*(asked.text() for _ in range(30)))
    assert sorted(texts) == sorted(f"{number}," * 20 for number in range(1, 31))
