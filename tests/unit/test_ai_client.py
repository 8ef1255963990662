"""What is silence and what is not, by a clock that the tests move; the service is a fake transport."""

from collections.abc import AsyncIterator

import httpx

from chat.application.ports import Finish, TextDelta
from tests.kit.ai_client import TURNS, asking, joined
from tests.kit.ai_server import DONE, finish, text
from tests.kit.virtual_time import VirtualLoop, run

URL = "http://ai.example/v1"


class Parts(httpx.AsyncByteStream):
    """A body in these parts, one for each read."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


def test_a_listener_that_takes_its_time_is_not_the_ais_silence():
    async def main(loop: VirtualLoop) -> None:
        service = httpx.MockTransport(
            lambda _: httpx.Response(200, stream=Parts(text("a"), text("b"), finish() + DONE))
        )
        async with asking(URL, service, stall_timeout_seconds=30) as asked:
            pieces = []
            async for batch in asked.ai.answer(TURNS, 100, "some-model"):
                pieces += batch
                await loop.advance(1000)
        assert pieces == [TextDelta("a"), TextDelta("b"), Finish("stop")]

    run(main)


def test_a_pause_between_two_tries_is_not_the_ais_silence():
    async def main(loop: VirtualLoop) -> None:
        statuses = iter([503, 503, 200])
        service = httpx.MockTransport(lambda _: httpx.Response(next(statuses), stream=Parts(text("a"), finish())))
        async with asking(URL, service, first_token_timeout_seconds=60) as asked:
            asked.make_pauses(lambda _: loop.advance(1000))
            pieces, failure = await asked.collect()
        assert (joined(pieces), failure) == ("a", None)

    run(main)
