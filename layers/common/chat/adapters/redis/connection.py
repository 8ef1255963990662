"""One connection to Redis or Valkey in RESP2: many commands out in one write, their replies in one wait.

Waits for replies are bounded by those who wait. Source: Redis serialization protocol specification. docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import hiredis

from chat.adapters.redis.address import Address, read_address
from chat.settings import Secret

Command = tuple[str | bytes | int | float, ...]
Replies = list[Any]

IDLE_SECONDS = 10.0
"""A connection unused for longer, by the wall clock, is dropped: a thawed process cannot tell a dead socket from a
living one without waiting for it."""

_NOT_SERVING = ("NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "READONLY", "ERR max number of clients")


class Refusal(Exception):
    """The reply to a command that the server refused. It is returned, not raised."""


class LinkError(Exception):
    """The connection is of no use: it was refused, ended, or does not speak the protocol."""


AWAY = (LinkError, OSError, TimeoutError)
"""Raised by a connection when the server refuses, fails or keeps silent; includes a refused login."""


class RedisAway(Exception):
    """Redis did not answer in time, or at all."""


AskAgain = Callable[[], str | None]


class Login:
    """Where to connect and as whom; after a refusal it asks once more, because the secret may have been rotated."""

    def __init__(self, url: Secret, ask_again: AskAgain | None) -> None:
        self._address = read_address(url.reveal())
        self._ask_again = ask_again
        self._was_refused = False
        self._tls: tuple[Address, ssl.SSLContext | None] | None = None

    def refuse(self) -> None:
        """Hear that the server refused the login; the next connection uses a new one if there is one."""
        self._was_refused = True

    async def address(self) -> Address:
        if self._was_refused and self._ask_again is not None:
            self._was_refused = False
            if found := await asyncio.to_thread(self._ask_again):
                with suppress(ValueError):  # what is kept there now is no address: the refusal stays
                    self._address = read_address(found)
        return self._address

    def tls(self, address: Address) -> ssl.SSLContext | None:
        """Return how TLS verifies at `address`. Made once: reading certificates keeps all streams waiting for 30 ms."""
        if self._tls is None or self._tls[0] != address:
            self._tls = (address, address.tls())
        return self._tls[1]


class Connection:
    """Opened by `connect`, and again after `disconnect`. One task at a time waits for replies."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._link: Link | None = None

    @property
    def is_connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._link is not None and self._link.error is None

    async def connect(self) -> None:
        """Open it, log in and choose the database: one round trip, none where neither is asked for.

        Raises:
            AWAY: it cannot be had; a refused login is remembered.
        """
        self.disconnect()
        address = await self._login.address()
        loop = asyncio.get_running_loop()
        if address.path is not None:
            _, self._link = await loop.create_unix_connection(Link, address.path)
        else:
            tls = self._login.tls(address)
            _, self._link = await loop.create_connection(Link, address.host, address.port, ssl=tls)
        try:
            await self._introduce(address)
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close it at once."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()

    def send(self, *commands: Command) -> None:
        """Send commands whose replies somebody reads.

        Raises:
            LinkError: it is closed.
        """
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub is wrong
        self._open_link().write(b"".join(packed))

    async def exchange(self, commands: Sequence[Command]) -> Replies:
        """Send commands and return a reply for each, a `Refusal` among them where one was refused.

        Raises:
            LinkError: the connection ended, or the server serves nobody now.
        """
        self.send(*commands)
        replies = await self.read(len(commands))
        for reply in replies:
            if isinstance(reply, Refusal) and str(reply).startswith(_NOT_SERVING):
                raise LinkError(str(reply).partition(" ")[0])
        return replies

    async def read(self, count: int) -> Replies:
        """Wait for the next replies. If cancelled, none of them is lost.

        Raises:
            LinkError: the connection ended before they came.
        """
        return await self._open_link().read(count)

    def _open_link(self) -> Link:
        if self._link is None:
            raise LinkError("the connection is closed")
        return self._link

    async def _introduce(self, address: Address) -> None:
        if address.login:
            self.send(("AUTH", *address.login))
        if address.database:
            self.send(("SELECT", address.database))
        if address.login and isinstance((await self.read(1))[0], Refusal):
            self._login.refuse()
            raise LinkError("the server refused the login")
        if address.database and isinstance((await self.read(1))[0], Refusal):
            raise LinkError("the server refused the database")


class Link(asyncio.Protocol):
    """One socket: replies in the order of their arrival, until it ends."""

    def __init__(self) -> None:
        self.error: LinkError | None = None
        self._socket: asyncio.Transport
        self._reader = hiredis.Reader(replyError=Refusal)
        self._replies: Replies = []
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self._socket.write(data)

    async def read(self, count: int) -> Replies:
        if len(self._replies) < count:
            if self.error is not None:
                raise self.error
            self._wanted = count
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = self._replies[:count]
        del self._replies[:count]
        return taken

    def abort(self) -> None:
        self._end(LinkError("the connection was closed"))
        self._socket.abort()

    def _end(self, error: LinkError) -> None:
        self.error = self.error or error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self.error)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except hiredis.ProtocolError:
            self._end(LinkError("this is no Redis"))
            self._socket.abort()
            return
        if self._waiter is not None and len(self._replies) >= self._wanted and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(LinkError("the connection ended"))


Open = Callable[[], Connection]


def opener(url: Secret, ask_again: AskAgain | None = None) -> Open:
    """Return a function that makes unconnected connections to `url`, all with the same login.

    When a login is refused, `ask_again` may know a new URL, which the next connection uses. It may block.

    Raises:
        SettingsError: the URL asks for something that is not known here.
    """
    login = Login(url, ask_again)
    return lambda: Connection(login)
