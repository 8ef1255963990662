"""A cluster of several shards: each command goes to the master that serves its key, in one trip to each node.

Source: Redis cluster specification (hash slots, MOVED, ASK, TRYAGAIN); `CLUSTER SLOTS` and `CLUSTER INFO`.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ResponseError, TryAgainError

from chat.adapters.redis.connection import Channel, Command, ConnectionLost, RedisConnection, RedisUnavailable, Replies
from chat.adapters.redis.endpoints import UrlEndpoint
from chat.adapters.redis.pipelined_client import PAUSE_SECONDS, TRIP_SECONDS, PipelinedClient

ATTEMPTS = 2
"""A command is sent again once the map of the cluster has been read again."""

_FIRST_KEY = {"EVAL": 3}
"""Where a command has its first key, if not right behind its name."""
_KEYLESS = {"PING", "PUBLISH", "CLUSTER", "TIME"}


class Node(NamedTuple):
    """A server of the cluster."""

    host: str
    port: int


class Unreachable(ResponseError):
    """The reply to a command whose node could not be reached, while others could."""


_REPEATED = (Unreachable, AskError, ClusterDownError, TryAgainError)
"""Replies upon which a command is sent again; MOVED is an ASK that lasts."""


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which master serves which slots."""

    starts: Sequence[int]
    ranges: Sequence[tuple[int, Node]]
    """The last slot of each range, and its master; parallel to `starts`."""
    nodes: frozenset[Node]
    """All masters."""

    def node_of(self, slot: int) -> Node | None:
        """Return the slot's master, None where nobody serves it."""
        at = bisect_right(self.starts, slot) - 1
        if at < 0 or slot > self.ranges[at][0]:
            return None
        return self.ranges[at][1]


EMPTY = SlotMap((), (), frozenset())


def read_slots(reply: Iterable[Any], asked: Node) -> SlotMap:
    """Read the reply of `CLUSTER SLOTS` that `asked` gave; a node without a host is reached as `asked` is."""
    found = sorted((int(start), int(end), _node(master, asked)) for start, end, master, *_ in reply)
    return SlotMap(
        [start for start, _, _ in found],
        [(end, node) for _, end, node in found],
        frozenset(node for _, _, node in found),
    )


def _node(entry: Sequence[Any], asked: Node) -> Node:
    host = (entry[0] or b"").decode()
    return Node(asked.host if host in ("", "?") else host, int(entry[1]))


def slot_of(command: Command) -> int | None:
    """Return the slot of a command's first key, None where it has none. All our commands stay within one slot."""
    name = str(command[0])
    if name in _KEYLESS:
        return None
    key = command[_FIRST_KEY.get(name, 1)]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


class NodeEndpoint:
    """One node of the cluster: as the URL says, at the node's address."""

    def __init__(self, url: UrlEndpoint, node: Node) -> None:
        self._url, self._node = url, node

    async def channel(self) -> Channel:
        address = await self._url.current_address()
        return self._url.channel_to(address.at(*self._node))

    def refused(self) -> None:
        self._url.refused()


class AnyNodeEndpoint:
    """Another node of the cluster for each connection: for subscriptions, which every node serves."""

    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster
        self._count = 0

    async def channel(self) -> Channel:
        nodes = sorted((await self._cluster.slot_map()).nodes)
        if not nodes:
            raise ConnectionLost("no node of the cluster can be reached")
        self._count += 1
        return await NodeEndpoint(self._cluster.url, nodes[self._count % len(nodes)]).channel()

    def refused(self) -> None:
        self._cluster.url.refused()


class ClusterClient:
    """Like `PipelinedClient`, with one connection to each node.

    A command that is redirected, or whose node fails, is sent once more after the map has been read again. While some
    nodes cannot be reached, the replies to their commands are `Unreachable`; others are served.
    """

    def __init__(self, url: UrlEndpoint, on_unavailable: Callable[[], None] = lambda: None) -> None:
        self.url = url
        self.trip_seconds = TRIP_SECONDS
        self._on_unavailable = on_unavailable
        self._clients: dict[Node, PipelinedClient] = {}
        self._map = EMPTY
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._unavailable_until = 0.0

    @property
    def is_unavailable(self) -> bool:
        """Whether no node answered at the last attempt, and the next is not due yet."""
        return time.monotonic() < self._unavailable_until

    async def run(self, *commands: Command) -> Replies:
        """Send each command to the node of its key and return a reply for each.

        Raises:
            RedisUnavailable: no node answered within the limit; any of the commands may have been executed.
        """
        if self.is_unavailable:
            raise RedisUnavailable("no node of the cluster answered a moment ago")
        replies: Replies = [Unreachable("no node")] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(ATTEMPTS):
            known = await self.slot_map()
            await self._send(commands, left, replies, known)
            left = [
                at for at in left if isinstance(replies[at], Unreachable | AskError | ClusterDownError | TryAgainError)
            ]
            if not left:
                return replies
            if attempt + 1 < ATTEMPTS:
                await self._refresh(is_redirected=any(isinstance(replies[at], AskError) for at in left))
        for at in left:
            replies[at] = Unreachable(f"the node of this key is not available: {type(replies[at]).__name__}")
        if len(left) == len(commands):
            self._unavailable_until = time.monotonic() + PAUSE_SECONDS
            self._on_unavailable()
            raise RedisUnavailable("no node of the cluster answered")
        return replies

    async def close(self) -> None:
        """Close all connections; callers that still wait are told that Redis is unavailable."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    async def slot_map(self) -> SlotMap:
        """Return the map of the cluster, read if there is none yet."""
        if not self._map.nodes:
            await self._refresh()
        return self._map

    async def _send(self, commands: Sequence[Command], which: Iterable[int], replies: Replies, known: SlotMap) -> None:
        by_node: defaultdict[Node | None, list[int]] = defaultdict(list)
        anyone = next((node for node in sorted(known.nodes) if not self._client(node).is_unavailable), None)
        for at in which:
            slot, redirected = slot_of(commands[at]), replies[at]
            if isinstance(redirected, AskError) and type(redirected) is AskError:
                by_node[None].append(at)
                replies[at] = await self._ask(Node(redirected.host, redirected.port), commands[at])
            else:
                by_node[anyone if slot is None else known.node_of(slot)].append(at)
        by_node.pop(None, None)
        await asyncio.gather(*(self._send_to(node, ats, commands, replies) for node, ats in by_node.items() if node))

    async def _send_to(self, node: Node, ats: Sequence[int], commands: Sequence[Command], replies: Replies) -> None:
        try:
            found = await self._client(node).run(*(commands[at] for at in ats))
        except RedisUnavailable:
            found = [Unreachable("the node does not answer")] * len(ats)
        for at, reply in zip(ats, found, strict=True):
            replies[at] = reply

    async def _ask(self, node: Node, command: Command) -> Any:
        """Ask the node that a slot is moving to, once, as ASK says."""
        try:
            _, reply = await self._client(node).run(("ASKING",), command)
        except RedisUnavailable:
            return Unreachable("the node does not answer")
        return reply

    def _client(self, node: Node) -> PipelinedClient:
        if node not in self._clients:
            self._clients[node] = PipelinedClient(lambda: RedisConnection(NodeEndpoint(self.url, node)))
        return self._clients[node]

    async def _refresh(self, is_redirected: bool = False) -> None:
        """Read the map from all nodes that answer, and believe the one that has seen most changes.

        While nodes fail this is done once a second at most; a redirection says for sure that the map is old.
        """
        before = self._map
        async with self._lock:
            is_fresh = time.monotonic() - self._read_at < PAUSE_SECONDS
            if self._map is not before or (is_fresh and self._map.nodes and not is_redirected):
                return
            known = [(node, self._client(node)) for node in self._map.nodes]
            found = [one for one in await asyncio.gather(*(_ask_for_map(*one) for one in known)) if one is not None]
            if not found:
                address = await self.url.current_address()
                seed = Node(address.kwargs.get("host", "localhost"), address.kwargs.get("port", 6379))
                client = PipelinedClient(lambda: RedisConnection(self.url))
                try:
                    found = [one for one in [await _ask_for_map(seed, client)] if one is not None]
                finally:
                    await client.close()
            self._read_at = time.monotonic()
            if found:
                self._map = max(found, key=lambda one: one[0])[1]
                await self._forget_others()

    async def _forget_others(self) -> None:
        for node in [node for node in self._clients if node not in self._map.nodes]:
            await self._clients.pop(node).close()


async def _ask_for_map(node: Node, client: PipelinedClient) -> tuple[int, SlotMap] | None:
    try:
        info, slots = await client.run(("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
    except RedisUnavailable:
        return None
    if isinstance(info, ResponseError) or isinstance(slots, ResponseError) or not slots:
        return None
    epoch = dict(line.split(":", 1) for line in info.decode().split() if ":" in line).get("cluster_current_epoch", "0")
    return int(epoch), read_slots(slots, node)
