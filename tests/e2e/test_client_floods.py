"""What clients and Redis can send without end, in its smallest pieces: the memory of the real processes judges."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from chat.adapters.redis import keys
from tests.e2e.test_floods import MAX_MORE_KIB, forget_peak, peak_kib
from tests.e2e.test_one_account import device, new_chat, slow
from tests.kit.ai_server import AIServer
from tests.kit.redis_servers import own_server
from tests.kit.service import Service, running
from tests.kit.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("floods"),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"),
]

FLOOD_BYTES = 64 << 20
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
START = b"POST /api/chat/create HTTP/1.1\r\nhost: localhost\r\nx-user-id: u\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "headers": (START, b"a:\r\n"),
    "a header": (START + b"a: ", b"x"),
    "a query string": (b"GET /health?", b"a&"),
    "a path": (b"GET /", b"a/"),
    "a method": (b"", b"A"),
    "a body": (START + CHUNKED, b"1\r\n \r\n"),
    "a chunk extension": (START + CHUNKED + b"1;", b"x"),
    "trailers": (START + CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n"),
    "a trailer": (START + CHUNKED + b"2\r\n{}\r\n0\r\na: ", b"x"),
}


@pytest.fixture(scope="module")
def redis_of_its_own() -> Iterator[str]:
    with own_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def service(redis_of_its_own) -> Iterator[Service]:
    limits = dict.fromkeys(("CHAT_MESSAGES_PER_MINUTE", "CHAT_CHATS_PER_MINUTE"), "0")
    # Nobody listens there: an answer ends as `ai_unavailable`.
    with running({"REDIS_URL": redis_of_its_own, "OPENAI_BASE_URL": "http://127.0.0.1:1", **limits}) as service:
        yield service


@pytest.fixture
async def client(service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for user in ("u", "warm"):
            chat_id = await new_chat(client, user)
            await client.post(f"/api/chat/{chat_id}/stream", headers=device(user), json={"content": "hello"})
            await client.post(f"/api/chat/{chat_id}/cancel", headers=device(user))
        yield client


class Memory:
    """What the gateway and the process that streams take more, at their peak, than when this began."""

    def __init__(self, service: Service) -> None:
        self.before = {}
        for pid in (*service.pids("-m local "), *service.pids("-m lambda_stream")):
            forget_peak(pid)
            self.before[pid] = peak_kib(pid)

    def more_kib(self) -> int:
        assert len(self.before) == 2
        return max(peak_kib(pid) - before for pid, before in self.before.items())


async def send_without_end(url: str, first: bytes, part: bytes) -> int:
    """Send until the server closes, or for `FLOOD_BYTES`; return how much was sent."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    piece, sent = part * (65_536 // len(part)), 0
    with suppress(ConnectionError):
        writer.write(first)
        while sent < FLOOD_BYTES and not reader.at_eof():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # where the server is slower, to hear that it has closed
            sent += len(piece)
    writer.transport.abort()
    return sent


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_request_that_does_not_end_is_cut_off(service, client, name):
    memory = Memory(service)
    sent = await send_without_end(service.url, *ENDLESS[name])
    assert memory.more_kib() < MAX_MORE_KIB
    assert sent < FLOOD_BYTES or name == "a body"  # whose rest is read and dropped
    assert (await client.get("/health")).status_code == 200


def bodies() -> Iterator[bytes]:
    for depth in (*range(300, 1100, 50), 10_000, 60_000):
        yield b'{"content":' + b"[" * depth + b"]" * depth + b"}"
        yield b'{"content":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    yield b"[" * 262_000
    yield b'{"content":"x","a":[' + b"{}," * 80_000 + b"{}]}"
    yield b'{"content":"x",' + b",".join(b'"%d":1' % number for number in range(20_000)) + b"}"


async def test_deep_and_scattered_json_is_refused_or_passed_over(service, client):
    chat_id = await new_chat(client, "u")
    memory = Memory(service)
    for body in bodies():
        for path in ("/api/chat/create", f"/api/chat/{chat_id}/stream", f"/api/chat/{chat_id}/cancel"):
            response = await client.post(path, headers=device("u"), content=body)
            assert response.status_code in (200, 201, 400, 413), response.text
    assert memory.more_kib() < MAX_MORE_KIB


async def test_headers_and_query_strings_at_their_limits_are_refused_in_words(service, client):
    chat_id = await new_chat(client, "u")
    memory = Memory(service)
    long = "x" * 50_000
    many = [(f"a-{number}", "") for number in range(5_000)]
    for _ in range(5):
        for name in ("X-User-Id", "X-Session-Id", "Last-Event-ID", "Authorization", "Cookie"):
            response = await client.get(f"/api/chat/{chat_id}/stream", headers={**device("u"), name: long})
            assert response.status_code == 204 if name in ("Authorization", "Cookie") else 400, response.text
        response = await client.post("/api/chat/create", headers={**device("u"), "Idempotency-Key": long})
        assert response.status_code == 400
        response = await client.get(f"/api/chat/{chat_id}/stream?{'messageId=1&' * 4000}", headers=device("u"))
        assert response.status_code == 400
        response = await client.get(f"/api/chat/{chat_id}/stream", headers=[*device("u").items(), *many])
        assert response.status_code == 204
    assert memory.more_kib() < MAX_MORE_KIB


async def test_a_subscription_that_a_stranger_floods_costs_no_memory_and_cancels_work(redis_of_its_own):
    """Notes of 32 MiB on the channel of an answer that runs, and a hundred thousand on that of one that has ended."""
    async with AIServer() as ai:
        ai.default = slow
        with running({"REDIS_URL": redis_of_its_own, "OPENAI_BASE_URL": ai.url}) as service:
            async with (
                httpx.AsyncClient(base_url=service.url, timeout=60) as client,
                Redis.from_url(redis_of_its_own) as stranger,
            ):
                user = str(uuid4())
                await cancel(client, user, await started(client, user, await new_chat(client, user)))
                channel = await started(client, user, await new_chat(client, user))
                memory = Memory(service)
                for _ in range(3):
                    await stranger.publish(channel, b"x" * (32 << 20))
                    await until(lambda: subscribed(stranger, channel))
                await cancel(client, user, channel)
                for _ in range(100):
                    pipeline = stranger.pipeline(transaction=False)
                    for _ in range(1000):
                        pipeline.publish(channel, b"x")
                    await pipeline.execute()
                await cancel(client, user, await started(client, user, await new_chat(client, user)))
                assert memory.more_kib() < MAX_MORE_KIB


async def cancel(client: httpx.AsyncClient, user: str, channel: str) -> None:
    chat_id, message_id = channel.split("{")[1].split("}")[0], channel.rpartition(":")[2]
    path, body = f"/api/chat/{chat_id}/cancel", {"messageId": message_id}
    reply = await client.post(path, headers=device(user), json=body)
    assert reply.json()["status"] == "cancelled"


async def subscribed(redis: Redis, channel: str) -> bool:
    return dict(await redis.pubsub_numsub(channel))[channel.encode()] == 1


async def started(client: httpx.AsyncClient, user: str, chat_id: str) -> str:
    """Begin an answer, leave it, and return the channel on which its owner hears of cancels."""
    headers, body = device(user), {"content": "hello"}
    async with client.stream("POST", f"/api/chat/{chat_id}/stream", headers=headers, json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                message_id = line[4:].partition(":")[0]
            if '"delta"' in line:
                return keys.cancel(chat_id, message_id)
    raise AssertionError("it said nothing")
