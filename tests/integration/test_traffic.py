"""What an answer asks of the stores does not grow with its deltas."""

import pytest
from redis.asyncio import Redis
from sqlalchemy import event

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.adapters.redis.coordination import RedisCoordination
from chat.adapters.redis.rate_limiter import RedisRateLimiter
from chat.adapters.redis.servers import open_servers
from chat.application.ports import Finish, TextDelta
from chat.settings import LimitSettings, Secret
from tests.kit.ai import ScriptedAI
from tests.kit.redis_servers import own_server
from tests.kit.world import World


class FlatOut(ScriptedAI):
    """Says everything without ever giving way, so that no timer runs between two deltas."""

    async def answer(self, turns, max_tokens, model):
        self.calls.append(turns)
        for step in self.script:
            yield [step]


async def commands(client: Redis) -> int:
    """Return how many commands the server has processed, but for those of this question."""
    return (await client.info("stats"))["total_commands_processed"]


@pytest.mark.parametrize("deltas", [10, 5000])
async def test_no_delta_asks_redis_or_mysql(deltas, database_url):
    engine = open_engine(Secret(database_url))
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: statements.append(statement))
    with own_server() as server:
        live = RedisCoordination(open_servers(Secret(server.url)), 7200)
        limits = RedisRateLimiter(live.client, live.flush_loop, LimitSettings(8, 60, 10**6))
        ai = FlatOut(*[TextDelta(f"{n} ") for n in range(deltas)], Finish("stop"))
        world = World(SqlChatRepository(engine), live, ai, limits)
        client = Redis.from_url(server.url)
        chat_id = await world.new_chat()
        before = await commands(client)
        statements.clear()
        answered = await world.ask(chat_id)
        asked = await commands(client) - before - 1
        assert answered.names.count("") == deltas
        assert (await world.stored(answered)).text == "".join(f"{n} " for n in range(deltas))
        written = [one for one in statements if one.split()[0] in ("UPDATE", "INSERT", "SELECT")]
        assert len(written) <= 6 + 2  # the answer's own, and the look at what is stored
        assert asked <= 50  # the server counts what a script does too
        await live.close()
        await world.chats.close()
        await client.aclose()
