"""Opens a TCP connection to whichever of a host's addresses answers first, and leaves no other open.

asyncio's own race of addresses forgets a socket, connected, when it is cancelled just after one has won.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

HEAD_START_SECONDS = 0.25
"""How long an address is tried alone before the next is tried beside it.

Source: RFC 8305, section 8.
"""

Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected, non-blocking socket. When cancelled, or when one attempt wins, all others are closed.

    Raises:
        OSError: the host has no address, or none can be reached; the error is that of the last attempt.
    """
    loop = asyncio.get_running_loop()
    places = _taking_turns(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    attempts: dict[asyncio.Task[None], socket.socket] = {}
    error: BaseException = OSError("no address")
    try:
        while places or attempts:
            if places:
                family, kind, protocol, _, address = places.pop(0)
                connecting = _socket(family, kind, protocol)
                attempts[loop.create_task(loop.sock_connect(connecting, address))] = connecting
            head_start = HEAD_START_SECONDS if places else None
            done, _ = await asyncio.wait(attempts, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                connected, failure = attempts.pop(attempt), attempt.exception()
                if failure is None:
                    return connected
                connected.close()
                error = failure
        raise error
    finally:
        for attempt, connecting in attempts.items():
            _give_up(attempt, connecting)


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made


def _give_up(attempt: asyncio.Task[None], connecting: socket.socket) -> None:
    """Close the socket as soon as the event loop no longer watches it: its number may be taken anew at once."""

    def close(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            ended.exception()  # nobody else will ask
        connecting.close()

    attempt.add_done_callback(close)
    attempt.cancel()


def _taking_turns(found: Sequence[Place]) -> list[Place]:
    """Order addresses so that families take turns, the system's first choice first.

    Source: RFC 8305, section 4.
    """
    first = [place for place in found if place[0] == found[0][0]]
    others = [place for place in found if place[0] != found[0][0]]
    return [place for place in chain.from_iterable(zip_longest(first, others)) if place is not None]
