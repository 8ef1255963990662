"""Invariant 5: at the instant of `done` a new connection to the database reads what the client was told."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import NullPool, create_engine, select

from chat.adapters.mysql.engine import engine_options
from chat.adapters.mysql.tables import messages
from chat.domain.events import Event
from chat.settings import Secret
from tests.kit import ai_server, counts
from tests.kit.fleet import Process, by_question
from tests.kit.world import Client

WAYS = {
    "completed": ai_server.say("all ", "of ", "it"),
    "failed": ai_server.cut(ai_server.text("half ")),
    "cancelled": ai_server.silent(ai_server.text("half ")),
}
AT_ONCE = 10

on_every_database = pytest.mark.parametrize("stores", ["embedded", "servers"], indirect=True)


class Witness(Client):
    """A client that looks into the database the moment it is told `done`."""

    def __init__(self, database_url: str) -> None:
        super().__init__()
        target, options = engine_options(Secret(database_url))
        self._engine = create_engine(target, poolclass=NullPool, **options)
        self.seen: tuple[str, str] | None = None

    def __call__(self, events: Sequence[Event], with_ids: bool = True) -> None:
        super().__call__(events, with_ids)
        if events[-1].name == "done":
            wanted = select(messages.c.status, messages.c.content).where(messages.c.id == self.start["messageId"])
            with self._engine.connect() as connection:
                self.seen = tuple(connection.execute(wanted).one())
            self._engine.dispose()


async def one(process: Process, database_url: str, way: str) -> None:
    witness = Witness(database_url)
    generation = await process.send(await process.new_chat(), way)
    running = asyncio.create_task(generation.run(witness))
    if way == "cancelled":
        await witness.has(2)
        generation.cancel()
    await running
    assert witness.done["status"] == way
    assert witness.seen == (way, witness.text)


@on_every_database
async def test_what_done_says_is_stored_for_anyone_who_looks(fleet, stores, ai):
    ai.default = by_question(WAYS.__getitem__)
    process, ways = await fleet.process(concurrency=AT_ONCE), list(WAYS)
    for begun in range(0, counts.of(1000), AT_ONCE):
        await asyncio.gather(
            *(one(process, stores.database_url, ways[n % len(ways)]) for n in range(begun, begun + AT_ONCE))
        )
