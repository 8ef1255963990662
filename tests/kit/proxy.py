"""A TCP proxy between a client and a server that a test did not start: it delays, freezes, cuts and refuses."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes both ways until a test says otherwise. Use as an async context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._parts = parts
        self._target = (parts.hostname, parts.port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task] = set()
        self._loses_reply = False
        self.delay_seconds = 0.0
        self.accepted = 0
        self.lost = 0
        """How many replies were lost on purpose."""

    @property
    def url(self) -> str:
        """The server's URL, by way of this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"))

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._writers) // 2

    def freeze(self) -> None:
        """Keep connections open and pass nothing on."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on what was held back, and everything after it."""
        self._flows.set()

    def lose_next_reply(self) -> None:
        """Break the next connection on which the server has something to say, and pass none of it on."""
        self._loses_reply = True

    def cut(self) -> None:
        """Break all connections; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self) -> None:
        """Break all connections and every new one."""
        self._refuses = True
        self.cut()

    def accept(self) -> None:
        """Accept connections again."""
        self._refuses = False

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        self.cut()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer, is_reply=True)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        await asyncio.wait(pumps)
        self._writers -= ends
        self._pumps.difference_update(pumps)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool = False) -> None:
        """Pass bytes on, each as late as the delay says: as on a long wire, many may be under way at once."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)
        tasks = [
            asyncio.create_task(self._take(reader, under_way, is_reply)),
            asyncio.create_task(self._deliver(under_way, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done() and not tasks[0].result():
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, under_way: asyncio.Queue, is_reply: bool) -> bool:
        """Take what comes until it ends; True when what is under way is to be lost."""
        with suppress(OSError):
            while data := await reader.read(65536):
                if is_reply and self._loses_reply:
                    self._loses_reply = False
                    self.lost += 1
                    return True
                await under_way.put((asyncio.get_running_loop().time() + self.delay_seconds, data))
        await under_way.put((0.0, b""))
        return False

    async def _deliver(self, under_way: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, data = await under_way.get()
                if not data:
                    return
                if (left := due - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(left)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
