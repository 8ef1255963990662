"""The stores under the services: embedded ones, and the given ones; with chats in them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.domain.model import Chat, new_id
from chat.settings import Secret
from migrations.runner import upgrade
from tests.kit.databases import fresh_mysql
from tests.kit.redis_servers import own_server


@dataclass
class Stores:
    """Where one service keeps what it keeps."""

    redis_url: str
    mysql_url: str
    _chats: SqlChatRepository
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count())

    @property
    def redis_port(self) -> int:
        return urlsplit(self.redis_url).port or 6379

    async def new_chat(self) -> Chat:
        """Store a chat of a new user, so that nobody meets a limit."""
        chat = Chat(new_id(), f"user-{next(self._numbers)}", None, None, datetime.now(UTC))
        return await self._chats.create(chat, None, None)


@asynccontextmanager
async def open_stores(folder: Path, redis_url: str | None, mysql_url: str | None) -> AsyncIterator[Stores]:
    """Yield the given stores, with a database of our own, or embedded ones."""
    with ExitStack() as stack:
        redis = redis_url or stack.enter_context(own_server()).url
        mysql = stack.enter_context(fresh_mysql(mysql_url)) if mysql_url else f"sqlite:///{folder / 'chat.sqlite3'}"
        await asyncio.to_thread(upgrade, mysql)
        chats = SqlChatRepository(open_engine(Secret(mysql), 4))
        try:
            yield Stores(redis, mysql, chats)
        finally:
            await chats.close()
