"""One connection, against a server that says what a test wants."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from chat.adapters.redis.connection import UNAVAILABLE, ConnectionLost, RedisConnection
from chat.adapters.redis.servers import open_servers
from chat.settings import Secret
from tests.kit.certificates import Authority
from tests.kit.redis_servers import own_server


class Scripted:
    """Takes one connection; says what it is told to say."""

    def __init__(self) -> None:
        self.port = 0
        self.serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._writer: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def say(self, data: bytes) -> None:
        (await self._writer).write(data)

    async def end(self) -> None:
        (await self._writer).close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = writer
        if not self._writer.done():
            self._writer.set_result(writer)
        try:
            while await reader.read(1000):
                pass
        except OSError:
            pass  # the client is gone
        writer.close()


@asynccontextmanager
async def scripted(tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    script = Scripted()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for writer in script.serving.values():
            writer.transport.abort()
        if script.serving:
            await asyncio.wait(script.serving)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RedisConnection]:
    connection = open_servers(Secret(url)).subscriber()
    await connection.connect()
    try:
        yield connection
    finally:
        connection.disconnect()


@asynccontextmanager
async def both() -> AsyncIterator[tuple[Scripted, RedisConnection]]:
    async with scripted() as server, connected(f"redis://127.0.0.1:{server.port}") as connection:
        yield server, connection


async def test_replies_come_in_order_however_they_are_cut():
    async with both() as (server, connection):
        asked = asyncio.create_task(connection.exchange([("GET", "a"), ("MGET", "b", "c"), ("INCR", "d")]))
        for byte in b"$3\r\none\r\n*2\r\n$-1\r\n$0\r\n\r\n:7\r\n":
            await server.say(bytes([byte]))
        assert await asked == [b"one", [None, b""], 7]


async def test_a_refused_command_has_a_refusal_among_the_replies():
    async with both() as (server, connection):
        asked = asyncio.create_task(connection.exchange([("SET", "a", 1), ("GET", "a")]))
        await server.say(b"-OOM command not allowed\r\n$1\r\n1\r\n")
        refused, value = await asked
        assert isinstance(refused, ResponseError)
        assert ("command not allowed" in str(refused), value) == (True, b"1")


@pytest.mark.parametrize(
    "words", ["NOAUTH Authentication required.", "LOADING Redis is loading", "MASTERDOWN Link down", "READONLY Replica"]
)
async def test_a_server_that_serves_nobody_is_away(words: str):
    async with both() as (server, connection):
        asked = asyncio.create_task(connection.exchange([("GET", "a")]))
        await server.say(f"-{words}\r\n".encode())
        with pytest.raises(UNAVAILABLE):
            await asked


async def test_what_is_no_redis_is_away():
    async with both() as (server, connection):
        asked = asyncio.create_task(connection.exchange([("GET", "a")]))
        await server.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ConnectionLost, match="no Redis"):
            await asked
        assert not connection.is_connected


async def test_an_end_wakes_whoever_waits_and_is_known_afterwards():
    async with both() as (server, connection):
        asked = asyncio.create_task(connection.exchange([("GET", "a"), ("GET", "b")]))
        await server.say(b"$1\r\n1\r\n")
        await server.end()
        with pytest.raises(ConnectionLost):
            await asked
        assert not connection.is_connected
        with pytest.raises(ConnectionLost):
            connection.send(("PING",))


async def test_waiting_that_is_given_up_loses_no_reply():
    async with both() as (server, connection):
        waiting = asyncio.create_task(connection.read(1))
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await server.say(b"+one\r\n+two\r\n")
        assert await connection.read(2) == [b"one", b"two"]


async def test_a_connection_can_be_opened_again_and_hears_nothing_of_the_former():
    async with both() as (server, connection):
        await connection.connect()
        assert connection.is_connected
        asked = asyncio.create_task(connection.read(1))
        await server.say(b"+stale\r\n")
        done, _ = await asyncio.wait([asked], timeout=0.05)
        assert not done
        assert connection.is_connected
        asked.cancel()
        await asyncio.wait([asked])


async def test_tls_believes_only_those_it_is_told_to(tmp_path: Path):
    authority = Authority(tmp_path)
    async with scripted(authority.server("localhost")) as server:
        url = f"rediss://localhost:{server.port}"
        async with connected(f"{url}?ssl_ca_certs={authority.path}") as connection:
            asked = asyncio.create_task(connection.exchange([("PING",)]))
            await server.say(b"+PONG\r\n")
            assert await asked == [b"PONG"]
        for wrong in (url, f"{url}?ssl_ca_certs={authority.path}".replace("localhost", "127.0.0.1")):
            with pytest.raises(ConnectionLost) as refused:
                await open_servers(Secret(wrong)).subscriber().connect()
            assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)
        async with connected(f"{url}?ssl_cert_reqs=none") as connection:
            assert connection.is_connected


async def test_the_database_of_the_url_is_chosen():
    with own_server() as server:
        first, second = f"redis://127.0.0.1:{server.port}/1", f"redis://127.0.0.1:{server.port}?db=2"
        async with connected(first) as one, connected(second) as two:
            await one.exchange([("SET", "key", "in one")])
            assert await two.exchange([("GET", "key")]) == [None]
        with pytest.raises(ConnectionLost, match="cannot be opened"):
            await open_servers(Secret(f"redis://127.0.0.1:{server.port}/99")).subscriber().connect()


async def test_certificates_are_read_once_for_all_connections_to_an_address(tmp_path: Path):
    """It takes 30 ms in which no stream goes on; a reconnect must not."""
    authority = Authority(tmp_path)
    async with scripted(authority.server("localhost")) as server:
        servers = open_servers(Secret(f"rediss://localhost:{server.port}?ssl_ca_certs={authority.path}"))
        first, second = servers.subscriber(), servers.subscriber()
        await first.connect()
        authority.path.unlink()
        await first.connect()
        await second.connect()
        assert first.is_connected and second.is_connected
        first.disconnect()
        second.disconnect()
