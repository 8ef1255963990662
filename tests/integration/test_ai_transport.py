"""The lean transport: which connections are used again, which are closed and when, and whom TLS believes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from chat.adapters.llm.provider import Provider, choose_transport
from chat.adapters.llm.transport import IDLE_SECONDS, LeanTransport
from chat.application.ports import TextDelta
from chat.domain.errors import AnswerFailed, FailureCode
from tests.kit import ai_server
from tests.kit.ai_client import MODEL, TRANSPORTS, TURNS, asking
from tests.kit.ai_server import AIServer, Gate, body, event, exactly, say, text
from tests.kit.certificates import Authority
from tests.kit.waiting import until

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Clock:
    """The wall clock, which the test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def server() -> AsyncIterator[AIServer]:
    async with AIServer() as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def plain(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, connect=10))


# Connections that are kept


async def test_a_connection_is_used_again_after_a_whole_answer(server: AIServer):
    async with asking(server.url, LeanTransport()) as asked:
        for _ in range(3):
            assert await asked.text() == "Hello world"
    assert [call.connection for call in server.calls] == [1, 1, 1]


async def test_the_connection_used_last_is_used_first(server: AIServer):
    async with asking(server.url, LeanTransport()) as asked:
        await asyncio.gather(*(asked.text() for _ in range(3)))
        assert server.connections == 3
        await asked.text()
        await asked.text()
        assert server.calls[3].connection == server.calls[4].connection


@pytest.mark.parametrize(
    "script",
    [
        ai_server.cut(text("Hello")),
        ai_server.silent(event({"error": {"code": 1}})),
        body(text("Hello"), ai_server.finish(), framing="close"),
        exactly(b"HTTP/1.0 200 OK\r\n\r\n" + text("Hello")),
        exactly(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"),
        exactly(WHOLE + b"and more than was announced"),
        exactly(WHOLE + WHOLE),
    ],
)
async def test_a_connection_that_may_carry_anything_else_is_closed(server: AIServer, script: ai_server.Script):
    server.script(script)
    async with asking(server.url, LeanTransport(idle_seconds=1000), max_retries=0) as asked:
        await asked.collect()
        await server.has_connections(0)
        await asked.text()
    assert [call.connection for call in server.calls] == [1, 2]


@pytest.mark.parametrize("drift", [IDLE_SECONDS + 0.1, 3600, -IDLE_SECONDS - 0.1])
async def test_after_idleness_by_the_wall_clock_a_connection_is_not_trusted(server: AIServer, drift: float):
    """A process that was frozen wakes with connections that are dead without saying so."""
    clock = Clock()
    async with asking(server.url, LeanTransport(now=clock)) as asked:
        await asked.text()
        clock.seconds += drift
        await asked.text()
        await server.calls[0].closed.wait()
        assert not server.calls[1].closed.is_set()
    assert [call.connection for call in server.calls] == [1, 2]


async def test_shortly_after_it_is(server: AIServer):
    clock = Clock()
    async with asking(server.url, LeanTransport(now=clock)) as asked:
        await asked.text()
        clock.seconds += IDLE_SECONDS - 0.1
        await asked.text()
    assert server.connections == 1


async def test_an_idle_connection_is_closed_after_a_while(server: AIServer):
    async with asking(server.url, LeanTransport(idle_seconds=0.05)) as asked:
        await asked.text()
        await server.has_connections(0)
        assert await asked.text() == "Hello world"


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    """Its end has reached the kernel, but the event loop had no chance to look."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        async def serve() -> socket.socket:
            connection, _ = await loop.sock_accept(listener)
            await loop.sock_recv(connection, 65536)
            await loop.sock_sendall(connection, WHOLE)
            return connection

        async with plain(LeanTransport()) as client:
            serving = asyncio.ensure_future(serve())
            assert (await client.post(url, json={})).text == "hi"
            (await serving).close()
            serving = asyncio.ensure_future(serve())
            assert (await client.post(url, json={})).text == "hi"
            (await serving).close()


async def test_nothing_of_an_answer_runs_on_in_the_background(server: AIServer):
    before = asyncio.all_tasks()
    server.script(say("Hello"), ai_server.silent(text("Hello")), body(event({"error": {"code": 1}}), text("x")))
    async with asking(server.url, LeanTransport()) as asked:
        await asked.collect()
        async with aclosing(asked.ai.answer(TURNS, 100, "some-model")) as batches:
            await anext(batches)
        await asked.collect()
        left = [task for task in asyncio.all_tasks() - before if "ai_server.py" not in repr(task)]
    assert left == []


async def test_closing_the_client_closes_every_connection(server: AIServer):
    gate, begun = Gate(), asyncio.Event()
    server.script(body(text("Hello"), ai_server.finish(), gate=gate), ai_server.silent(text("Hello")))

    async def listen() -> FailureCode:
        with pytest.raises(AnswerFailed) as caught:
            async for _ in asked.ai.answer(TURNS, 100, "some-model"):
                begun.set()
        return caught.value.code

    async with asking(server.url, LeanTransport()) as asked:
        idle = asyncio.ensure_future(asked.text())
        await gate.reached()
        running = asyncio.ensure_future(listen())
        await begun.wait()
        await gate.open()
        await idle
        assert server.open_connections == 2
    await server.has_connections(0)
    assert await running is FailureCode.AI_INCOMPLETE


async def test_a_question_taken_back_at_any_step_leaves_no_connection_open(server: AIServer):
    """Also just after the connection was made, which asyncio's own race of addresses forgets open."""
    server.default = ai_server.mute()
    async with asking(server.url, LeanTransport()) as asked:
        for steps in range(40):
            question = asyncio.create_task(asked.text())
            for _ in range(steps):
                await asyncio.sleep(0)
            question.cancel()
            await asyncio.wait([question])
        await until(lambda: server.open_connections == 0, "all are closed")
        assert server.connections > 10


# Connections opened ahead


async def test_warm_connections_are_used_by_the_next_requests(server: AIServer):
    transport = LeanTransport()
    async with asking(server.url, transport) as asked:
        assert await transport.warm(server.url, 2) == 2
        await server.has_connections(2)
        await asyncio.gather(*(asked.text() for _ in range(3)))
    assert server.connections == 3


async def test_warming_up_for_a_service_that_is_away_is_no_error():
    transport = LeanTransport()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert await transport.warm(f"http://127.0.0.1:{closed.getsockname()[1]}/v1") == 0
    await transport.aclose()


# Bodies


async def test_a_reader_that_does_not_read_stops_the_sender(server: AIServer):
    size, part = 64 << 20, b"x" * (1 << 20)
    sent = [0]

    async def script(call: ai_server.Call) -> None:
        await call.start()
        while sent[0] < size:
            await call.send(part)
            sent[0] += len(part)
        await call.end()

    server.script(script)
    seen: list[int] = []

    def stands_still() -> bool:
        seen.append(sent[0])
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    async with plain(LeanTransport()) as client, client.stream("POST", server.url) as response:
        await until(stands_still)
        assert sent[0] < size // 2
        received = 0
        async for data in response.aiter_raw():
            assert len(data) < 1 << 20
            received += len(data)
        assert received == size


async def test_a_body_sent_in_parts_arrives_as_one(server: AIServer):
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with plain(LeanTransport()) as client:
        await client.post(server.url, content=parts())
    assert (server.calls[0].body, server.calls[0].headers["content-length"]) == (b"one two", "7")
    assert "transfer-encoding" not in server.calls[0].headers


async def test_a_long_question_arrives_whole(server: AIServer):
    question = "안녕 " * 300_000
    async with plain(LeanTransport()) as client:
        await client.post(server.url, json={"content": question})
    assert server.calls[0].json == {"content": question}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", (200, b"hi")),
        (b"HTTP/1.1 299 A reason\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", (299, b"hi")),
        (b"HTTP/1.1 200 OK\r\n\r\nhi", (200, b"hi")),
    ],
)
@pytest.mark.parametrize("name", TRANSPORTS)
async def test_responses_are_read_alike_on_both_transports(
    server: AIServer, name: str, response: bytes, expected: tuple[int, bytes]
):
    server.script(exactly(response), exactly(*(bytes([byte]) for byte in response)))
    async with plain(TRANSPORTS[name]()) as client:
        for _ in range(2):
            received = await client.get(server.url)
            assert (received.status_code, received.content) == expected


@pytest.mark.parametrize(
    "header", [{"x": "a\r\nb: c"}, {"x": "a\nb"}, {"x": "a\0b"}, {"x\r\ny": "a"}], ids=["crlf", "lf", "nul", "name"]
)
async def test_a_header_cannot_become_two(server: AIServer, header: dict[str, str]):
    async with plain(LeanTransport()) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url, headers=header)
    assert server.calls == []


async def test_only_http_is_spoken():
    async with plain(LeanTransport()) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")


# TLS


async def test_a_server_with_a_good_certificate_is_believed(authority: Authority):
    async with AIServer(authority.server("127.0.0.1", "localhost")) as server:
        async with asking(server.url, LeanTransport(authority.trust())) as asked:
            assert [await asked.text(), await asked.text()] == ["Hello world"] * 2
        async with asking(server.url.replace("127.0.0.1", "localhost"), LeanTransport(authority.trust())) as asked:
            assert await asked.text() == "Hello world"
        assert [call.connection for call in server.calls] == [1, 1, 2]


@pytest.mark.parametrize("name", ["example.com", "127.0.0.2"])
async def test_a_server_with_a_certificate_for_another_host_is_refused(authority: Authority, name: str):
    async with AIServer(authority.server(name)) as server:
        async with asking(server.url, LeanTransport(authority.trust()), max_retries=0) as asked:
            assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)
        assert server.calls == []


async def test_a_server_that_only_its_own_authority_vouches_for_is_refused(authority: Authority, tmp_path: Path):
    async with AIServer(authority.server("127.0.0.1")) as server:
        for transport in (LeanTransport(), LeanTransport(Authority(tmp_path).trust())):
            async with asking(server.url, transport, max_retries=0) as asked:
                assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)
        assert server.calls == []


async def test_a_server_that_speaks_no_tls_is_refused():
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        async with asking(url, LeanTransport(), max_retries=0) as asked:
            assert await asked.collect() == ([], FailureCode.AI_UNAVAILABLE)


async def test_cancelling_closes_a_tls_connection_at_once(authority: Authority):
    async with AIServer(authority.server("127.0.0.1")) as server:
        gate = Gate()
        server.script(say("Hello", "!", gate=gate))
        async with asking(server.url, LeanTransport(authority.trust())) as asked:
            batches = asked.ai.answer(TURNS, 100, "some-model")
            await gate.release()
            assert await anext(batches) == [TextDelta("Hello")]
            await batches.aclose()
            await server.calls[0].closed.wait()


async def test_cancelling_ends_a_handshake_that_hangs(authority: Authority):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with asking(url, LeanTransport(authority.trust())) as asked:
            task = asyncio.ensure_future(asked.collect())
            connection, _ = await loop.sock_accept(listener)
            assert await loop.sock_recv(connection, 65536)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await loop.sock_recv(connection, 65536) == b""
            connection.close()


# Which transport


async def test_the_lean_transport_is_the_usual_one(server: AIServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with asking(server.url) as asked:
        await asked.text()
        await asked.text()
    assert server.connections == 1, "httpx's own would not have kept it"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_is_used_where_one_is_asked_for(server: AIServer, monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(variable, f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    async with asking("http://ai.example/v1") as asked:
        assert await asked.text() == "Hello world"
    assert server.calls[0].path == "http://ai.example/v1/chat/completions"


async def test_hosts_that_need_no_proxy_get_the_lean_transport(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert isinstance(choose_transport(MODEL.provider), LeanTransport)


async def test_redirects_are_not_followed_and_no_time_is_limited_but_connecting():
    provider = Provider(MODEL.provider, first_token_timeout_seconds=30)
    assert not provider.client.follow_redirects
    assert provider.client.timeout == httpx.Timeout(None, connect=5)
    await provider.close()
