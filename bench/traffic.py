"""What an answer asks of Redis and MySQL, counted on the wire between the function and the servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import hiredis

from bench.measures import AI, plan
from bench.peer import Code, ours
from bench.stores import Stores

RATE = 30
SECONDS = 12

_QUERY, _PING = 3, 14
"""Source: MySQL client/server protocol, COM_QUERY and COM_PING."""
_FRAME = ("BEGIN", "COMMIT")


class RedisCount:
    """Commands, and writes: what is sent in one go is one round trip."""

    def __init__(self) -> None:
        self.trips = 0
        self.commands: Counter[str] = Counter()

    def connection(self) -> Callable[[bytes], None]:
        """Return what takes a connection's bytes."""
        reader = hiredis.Reader()

        def take(data: bytes) -> None:
            self.trips += 1
            reader.feed(data)
            while (command := reader.gets()) is not False:
                self.commands[command[0].decode().upper()] += 1

        return take


class MysqlCount:
    """Statements, by what they are."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def connection(self) -> Callable[[bytes], None]:
        """Return what takes a connection's bytes."""
        buffer = bytearray()

        def take(data: bytes) -> None:
            buffer.extend(data)
            while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:3], "little")):
                number, payload = buffer[3], bytes(buffer[4:end])
                del buffer[:end]
                if number == 0 and payload[:1] in (bytes([_QUERY]), bytes([_PING])):
                    is_query = payload[0] == _QUERY
                    self.statements.append(payload[1:].decode(errors="replace") if is_query else "PING")

        return take

    def counts(self) -> dict[str, int]:
        """Return how many are an answer's own, transactions' frames, pings and checkpoints."""
        found = Counter({"own": 0, "frame": 0, "ping": 0, "checkpoint": 0})
        for text in (one for packet in self.statements for one in packet.split("; ")):
            is_partial = text.startswith("UPDATE messages") and "owner_seen_at=" in text.partition("WHERE")[0]
            kind = "frame" if text in _FRAME else "ping" if text == "PING" else "checkpoint" if is_partial else "own"
            found[kind] += 1
        return dict(found)


@asynccontextmanager
async def tapped(url: str, connection: Callable[[], Callable[[bytes], None]]) -> AsyncIterator[str]:
    """Pass bytes on to the server of `url`, showing what clients send; yield the URL that leads through here."""
    parts = urlsplit(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, take: Callable[[bytes], None]) -> None:
        try:
            while data := await reader.read(1 << 16):
                take(data)
                writer.write(data)
        except OSError:
            pass  # either side is gone
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        back = asyncio.create_task(pump(far_reader, writer, lambda _: None))
        await pump(reader, far_writer, connection())
        await back

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login, at, _ = parts.netloc.rpartition("@")
    try:
        yield parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
    finally:
        server.close()


async def of_answers(stores: Stores, ai: AI) -> dict[str, float]:
    """Count an answer that is there at once, and a long one: what that has more belongs to its seconds."""
    found = []
    for asked in (plan(3), plan(RATE * SECONDS, RATE)):
        redis, mysql = RedisCount(), MysqlCount()
        async with AsyncExitStack() as stack:
            redis_url = await stack.enter_async_context(tapped(stores.redis_url, redis.connection))
            mysql_url = stores.mysql_url
            if not mysql_url.startswith("sqlite"):
                mysql_url = await stack.enter_async_context(tapped(mysql_url, mysql.connection))
            through = replace(stores, redis_url=redis_url, mysql_url=mysql_url)
            running = await ours(through)(stack, ai.address, 1, Code())
            for _ in range(2):  # the first also opens the connections
                redis.trips, mysql.statements = 0, []
                redis.commands.clear()
                ask, _ = await running.ask(replace(asked, tag=plan(1).tag))
                await running.first(ask)
                await ask.ended
        found.append((redis.trips, redis.commands.total(), mysql.counts()))
    (trips, commands, _), (long_trips, long_commands, statements) = found
    result = {
        "redis_trips": trips,
        "redis_commands": commands,
        "redis_trips_second": (long_trips - trips) / SECONDS,
        "redis_commands_second": (long_commands - commands) / SECONDS,
    }
    if statements["own"]:
        result |= {"mysql_statements": statements["own"], "mysql_checkpoints": statements["checkpoint"]}
    return result
