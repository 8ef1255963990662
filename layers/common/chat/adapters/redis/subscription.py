"""One pub/sub connection for a process, shared by all its answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from redis.exceptions import ResponseError

from chat.adapters.redis.connection import IDLE_SECONDS, UNAVAILABLE, Command, ConnectionFactory, ConnectionLost

ACKNOWLEDGE_SECONDS = 0.5
"""How long a subscriber waits for the server's acknowledgement; afterwards the polled key must carry the weight."""
PING_SECONDS = 5.0
"""Silence after which the server is asked for a sign of life, and after as long again is taken for dead."""
REOPEN_SECONDS = 0.5
MAX_MESSAGE_BYTES = 65_536
"""A cancel's note is a hundred bytes: a connection on which more comes is given up, and the polled key carries on."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """One channel that is watched."""

    callback: Callable[[], None]
    heard_of: asyncio.Future[None]
    ends_at: float

    async def acknowledged(self) -> bool:
        """Wait for the server's acknowledgement, and tell whether it came in time.

        An unacknowledged watch stays: it is subscribed as soon as the server is back.
        """
        if not self.heard_of.done():
            left = self.ends_at - asyncio.get_running_loop().time()
            await asyncio.wait([self.heard_of], timeout=max(left, 0))
        return self.heard_of.done()


class Subscription:
    """Calls a callback for each message on a channel. Its reader runs only while somebody watches.

    Messages can be lost while the connection is: whoever watches must also poll.
    """

    def __init__(self, new_connection: ConnectionFactory) -> None:
        self._connection = new_connection()
        self._connection.max_reply_bytes = MAX_MESSAGE_BYTES
        self._watches: dict[str, Watch] = {}
        self._reader: asyncio.Task[None] | None = None
        self._is_open = False
        self._stale: list[str] = []
        """What nobody watches any more, but the server has not been told."""
        self._used_at = 0.0

    def watch(self, channel: str, callback: Callable[[], None]) -> Watch:
        """Subscribe; whether the server has heard of it is the watch's to tell."""
        loop = asyncio.get_running_loop()
        watch = self._watches[channel] = Watch(callback, loop.create_future(), loop.time() + ACKNOWLEDGE_SECONDS)
        if self._reader is None:
            self._reader = loop.create_task(self._read())
        elif self._is_open:
            with suppress(ConnectionLost):  # the reader notices by itself
                self._connection.send(("SUBSCRIBE", channel))
        return watch

    async def unwatch(self, channel: str) -> None:
        """Stop watching. With the last watch the reader ends; the connection is kept, and still subscribed, for the
        next: what costs a round trip now is sent along then.
        """
        if self._watches.pop(channel, None) is None:
            return
        if not self._is_open:
            self._stale.clear()
        elif self._watches:
            with suppress(ConnectionLost):  # the reader notices by itself
                self._connection.send(("UNSUBSCRIBE", channel))
        else:
            self._stale.append(channel)
        if not self._watches and self._reader is not None:
            await self._stop(self._reader)

    async def close(self) -> None:
        """End the reader and close the connection."""
        self._watches.clear()
        if self._reader is not None:
            await self._stop(self._reader)
        self._connection.disconnect()

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        reader.add_done_callback(partial(self._stopped, self._is_open))  # also if nobody waits for it any more
        reader.cancel()
        await asyncio.wait([reader])

    def _stopped(self, was_open: bool, _: asyncio.Task[None]) -> None:
        if not was_open:
            self._connection.disconnect()
        if self._watches and self._reader is None:  # whoever began to watch meanwhile took it for alive
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._watches:
                try:
                    await self._open()
                    await self._listen()
                except UNAVAILABLE:
                    self._is_open = False
                    self._connection.disconnect()
                    await asyncio.sleep(REOPEN_SECONDS)
        finally:
            self._is_open = False
            self._used_at = time.time()
            self._reader = None

    async def _open(self) -> None:
        if time.time() - self._used_at > IDLE_SECONDS:
            self._connection.disconnect()
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            was_connected = self._connection.is_connected
            if not was_connected:
                await self._connection.connect()
            self._is_open = True  # a watch that comes from now on subscribes itself
            stale = [channel for channel in self._stale if channel not in self._watches]
            self._stale.clear()
            unsubscribe: list[Command] = [("UNSUBSCRIBE", *stale)] if stale and was_connected else []
            self._connection.send(*unsubscribe, ("SUBSCRIBE", *self._watches))

    async def _listen(self) -> None:
        is_pinged = False
        while self._watches:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    (reply,) = await self._connection.read(1)
            except TimeoutError:
                if is_pinged:
                    raise
                self._connection.send(("PING",))
                is_pinged = True
                continue
            is_pinged = False
            if isinstance(reply, ResponseError):
                raise ConnectionLost("the server refused a subscription")
            self._hear(*reply[:2])

    def _hear(self, kind: bytes, channel: bytes) -> None:
        watch = self._watches.get(channel.decode())
        if watch is None:
            return
        if kind == b"subscribe":
            if not watch.heard_of.done():
                watch.heard_of.set_result(None)
        elif kind == b"message":
            try:
                watch.callback()
            except Exception:
                logger.exception("a listener failed")  # all the others live on this reader
