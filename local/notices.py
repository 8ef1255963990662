"""What functions have to say to the person at the terminal: lines of their logs that carry `notice`, each once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

_SECONDS = 0.25
"""Between two looks; it is for a person."""


@asynccontextmanager
async def reporting_notices(logs: Sequence[Path], report: Callable[[str], None]) -> AsyncIterator[None]:
    """Report the notices in these files, which need not exist yet, for as long as the context lasts."""
    watching = asyncio.create_task(_watch([LogTail(log) for log in logs], report))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(tails: Sequence[LogTail], report: Callable[[str], None]) -> None:
    told: set[str] = set()
    while True:
        for tail in tails:
            for notice in tail.notices():
                if notice not in told:
                    told.add(notice)
                    report(notice)
        await asyncio.sleep(_SECONDS)


class LogTail:
    """Reads what has been added to a file, whole lines only."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._position = 0
        self._rest = b""

    def notices(self) -> Iterator[str]:
        """Yield the notices among the lines that are new since the last call."""
        try:
            with self._log.open("rb") as log:
                log.seek(self._position)
                added = log.read()
                self._position += len(added)
        except FileNotFoundError:
            return
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            if b'"notice"' in line:
                yield from _notice_in(line)


def _notice_in(line: bytes) -> Iterator[str]:
    try:
        found = json.loads(line)
    except ValueError:
        return
    if isinstance(found, dict) and found.get("notice") is True and isinstance(found.get("message"), str):
        yield found["message"]
