"""A gate between a test and functions in other processes: they connect and wait, the test lets them go.

No polling on either side: whoever is at the gate is a connection, letting go is a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Gate:
    """Where functions wait; `port` is what they are told."""

    def __init__(self) -> None:
        self.port = 0
        self.arrived = 0
        """How many have come."""
        self.finished = 0
        """How many have said, having been let go, that they got to their end."""
        self._open = asyncio.Event()
        self._holding: set[asyncio.Task[None] | None] = set()

    def let_go(self) -> None:
        """Let go all who wait, and whoever comes later."""
        self._open.set()

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one who waits."""
        self.arrived += 1
        self._holding.add(asyncio.current_task())
        await self._open.wait()
        with suppress(OSError):
            writer.write(b"!")
            self.finished += len(await reader.read(1))
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def close(self) -> None:
        """Let go all, and wait until they have left."""
        self.let_go()
        await asyncio.gather(*filter(None, self._holding))


@asynccontextmanager
async def gate() -> AsyncIterator[Gate]:
    """Open a gate that is shut."""
    one = Gate()
    async with await asyncio.start_server(one.hold, "127.0.0.1", 0) as server:
        one.port = server.sockets[0].getsockname()[1]
        try:
            yield one
        finally:
            await one.close()
