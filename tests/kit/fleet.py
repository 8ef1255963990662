"""Several processes of the service on the same real stores, in one event loop: a test sees what is between them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

from sqlalchemy import Engine, event

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.adapters.redis.coordination import RedisCoordination
from chat.adapters.redis.rate_limiter import RedisRateLimiter
from chat.adapters.redis.servers import open_servers
from chat.adapters.redis.subscription import Subscription
from chat.application.ports import AI
from chat.application.telemetry_events import FallbackTaken
from chat.domain.model import new_id
from chat.settings import LimitSettings, Secret
from tests.kit import ai_server
from tests.kit.ai_client import asking
from tests.kit.ai_server import AIServer, Call, Script
from tests.kit.coordination import RecordingTelemetry
from tests.kit.world import World

KEPT_SECONDS = 7200
NO_LIMITS = LimitSettings(0, 0, 0)


class Stores(NamedTuple):
    """Where processes keep what they share."""

    redis_url: str
    database_url: str


class Process(World):
    """One process of the service: the real adapters, and a clock that a test sets."""

    def __init__(
        self,
        stores: Stores,
        ai: AI,
        subscription_url: str | None = None,
        limits: LimitSettings = NO_LIMITS,
        concurrency: int = 4,
        **more,
    ) -> None:
        telemetry = RecordingTelemetry()
        self.engine: Engine = open_engine(Secret(stores.database_url), concurrency)
        coordination = RedisCoordination(
            open_servers(Secret(stores.redis_url)), KEPT_SECONDS, lambda: telemetry.record(FallbackTaken("redis_away"))
        )
        if subscription_url is not None:
            coordination.subscription = Subscription(open_servers(Secret(subscription_url)).subscriber)
        rate_limiter = RedisRateLimiter(
            coordination.client, coordination.flush_loop, limits, lambda: telemetry.record(FallbackTaken("limits_off"))
        )
        defaults = {"silence_seconds": 0.2, "away_seconds": 3, "telemetry": telemetry}
        super().__init__(SqlChatRepository(self.engine), coordination, ai, rate_limiter, **defaults | more)
        self.user = f"user-{new_id()}"

    def statements(self) -> list[str]:
        """Return a list that every statement from now on is appended to."""
        told: list[str] = []
        event.listen(self.engine, "before_cursor_execute", lambda _c, _u, statement, *_: told.append(statement))
        return told

    async def close(self) -> None:
        await self.coordination.close()
        await self.chats.close()


class Fleet:
    """Starts processes of one user, and ends them all."""

    def __init__(self, stores: Stores, ai: AIServer) -> None:
        self.stores = stores
        self.ai = ai
        self.user = f"user-{new_id()}"
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Fleet":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    async def process(
        self, redis_url: str | None = None, database_url: str | None = None, ai: dict | None = None, **more
    ) -> Process:
        """Start a process; `ai` are changes to the settings of its AI."""
        stores = Stores(redis_url or self.stores.redis_url, database_url or self.stores.database_url)
        asked = await self._open.enter_async_context(asking(self.ai.url, **{"max_retries": 0, **(ai or {})}))
        process = Process(stores, asked.ai, **more)
        process.user = self.user
        self._open.push_async_callback(process.close)
        return process


def question(call: Call) -> str:
    """Return the message that the AI is asked to answer."""
    return call.json["messages"][-1]["content"]


def by_question(choose: Callable[[str], Script]) -> Script:
    """Answer each message as `choose` says."""

    async def script(call: Call) -> None:
        await choose(question(call))(call)

    return script


async def patient(call: Call) -> None:
    """Say as many words as the message asks for, then nothing until the client goes away."""
    await call.start()
    for number in range(int(question(call))):
        await call.send(ai_server.text(f"{number} "))
    await call.closed.wait()


async def commands(url: str, *command: object) -> object:
    """Send a server one command and return its reply."""
    connection = open_servers(Secret(url)).subscriber()
    try:
        async with asyncio.timeout(10):
            await connection.connect()
            (reply,) = await connection.exchange([command])
            return reply
    finally:
        connection.disconnect()


async def kill_subscriptions(url: str) -> None:
    """Break every subscription on a server that belongs to the test."""
    await commands(url, "CLIENT", "KILL", "TYPE", "pubsub")


def said(words: int) -> str:
    """Return what `patient` says."""
    return "".join(f"{number} " for number in range(words))
