"""What the database holds, read on a connection of the soak's own that no fault reaches."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.kit.databases import mysql_admin


class Rows:
    """Reads answers; one question at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._mysql: Any = None

    async def answers(self, chat_id: str, user_message_id: str) -> list[tuple[str, str, str]]:
        """Return id, status and text of all answers to a message."""
        where = "WHERE chat_id = %s AND reply_to = %s AND role = 'assistant' ORDER BY seq"
        return await self._ask(f"SELECT id, status, content FROM messages {where}", chat_id, user_message_id)

    async def active(self) -> list[tuple[str, str]]:
        """Return chat and id of all answers whose end is not stored."""
        return await self._ask("SELECT chat_id, id FROM messages WHERE role = 'assistant' AND status = 'streaming'")

    def close(self) -> None:
        if self._mysql is not None:
            self._mysql.close()

    async def _ask(self, statement: str, *values: str) -> list[Any]:
        async with self._turn:
            return await asyncio.to_thread(self._read, statement, values)

    def _read(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        if self._url.startswith("sqlite"):
            path = self._url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
                return list(connection.execute(statement.replace("%s", "?"), values))
        if self._mysql is None:
            self._mysql = mysql_admin(self._url)
            self._mysql.select_db(urlsplit(self._url).path.strip("/"))
        with self._mysql.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
