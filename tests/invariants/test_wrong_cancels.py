"""Invariant 2: no cancel stops an answer that it does not name."""

import asyncio
from collections import defaultdict
from random import Random

import pytest

from chat.application.cancel_answer import Cancelled, NotActive
from chat.domain.errors import ChatNotFound
from chat.domain.model import new_id
from tests.kit import ai_server, counts
from tests.kit.ai_server import Call
from tests.kit.fleet import Process, by_question

ANSWERS = 50
SECONDS = 120
"""Catches an answer that never ends."""


class Releases:
    """An AI that says a word to each message, and ends its answer when a test lets it."""

    def __init__(self) -> None:
        self.events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def script(self, question: str) -> ai_server.Script:
        async def answer(call: Call) -> None:
            await call.start()
            await call.send(ai_server.text("word "))
            await self.events[question].wait()
            await call.send(ai_server.finish() + ai_server.usage() + ai_server.DONE)
            await call.end()

        return answer


class Slot:
    """Two answers in one chat, one after the other, amid cancels of everything else."""

    def __init__(self, seed: int, owner: Process, other: Process, releases: Releases, live: dict[str, dict]) -> None:
        self.random = Random(seed)
        self.owner, self.other, self.releases, self.coordination = owner, other, releases, live
        self.stale: list[dict[str, str]] = []

    async def run(self, cancels: int) -> None:
        self.chat_id = await self.owner.new_chat()
        for _ in range(2):
            await self.one(cancels // 2)

    async def one(self, cancels: int) -> None:
        message = new_id()
        client, streaming = await self.owner.begin(self.chat_id, message, message=message)
        await client.has(2)
        names = {"message_id": client.start["messageId"], "user_message_id": message}
        self.coordination[self.chat_id] = names
        for _ in range(cancels):
            await self.miss()
        is_meant = self.random.random() < 0.5
        assert not streaming.done()
        assert (await self.owner.stored(client)).is_active
        if is_meant:
            ways = [{}, *({name: value} for name, value in names.items())]
            outcome = await self.other.cancel(self.chat_id, **self.random.choice(ways))
            assert isinstance(outcome, Cancelled)
        else:
            self.releases.events[message].set()
        await streaming
        assert client.done["status"] == ("cancelled" if is_meant else "completed")
        self.stale += [{name: value} for name, value in names.items()]

    async def miss(self) -> None:
        """Cancel something that is not this answer."""
        ways = [self.unknown, self.another_session, self.foreign]
        ways += [self.stale_one] if self.stale else []
        ways += [self.of_another_chat] if len(self.coordination) > 1 else []
        await self.random.choice(ways)()

    async def stale_one(self) -> None:
        await self.other.cancel(self.chat_id, **self.random.choice(self.stale))

    async def unknown(self) -> None:
        name = self.random.choice(["message_id", "user_message_id"])
        assert not isinstance(await self.other.cancel(self.chat_id, **{name: new_id()}), Cancelled)

    async def of_another_chat(self) -> None:
        chat_id = self.random.choice([one for one in self.coordination if one != self.chat_id])
        name, value = self.random.choice(list(self.coordination[chat_id].items()))
        assert not isinstance(await self.other.cancel(self.chat_id, **{name: value}), Cancelled)

    async def another_session(self) -> None:
        assert await self.other.cancel(self.chat_id, "tablet") == NotActive()

    async def foreign(self) -> None:
        name, value = self.random.choice(list(self.coordination[self.chat_id].items()))
        with pytest.raises(ChatNotFound):
            await self.other.cancel(self.chat_id, user="somebody else", **{name: value})


@pytest.mark.timeout(2 * SECONDS)
async def test_of_fifty_answers_cancels_stop_those_they_name_and_no_other(fleet, ai):
    """By stale ids, unknown ones, those of other chats, from other sessions and by other users."""
    releases = Releases()
    ai.default = by_question(releases.script)
    owners, other = [await fleet.process() for _ in range(2)], await fleet.process()
    seed, live = counts.seed(), {}
    print("TEST_SEED", seed)
    slots = [Slot(seed + n, owners[n % 2], other, releases, live) for n in range(ANSWERS)]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        for slot in slots:
            group.create_task(slot.run(counts.of(10_000) // ANSWERS))
