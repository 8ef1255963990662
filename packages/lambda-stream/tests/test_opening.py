"""When the response's connection is opened: while the application waits for others, and at once when it is needed."""

import asyncio
from contextlib import asynccontextmanager

from lambda_stream._invocation import Invocation
from lambda_stream._response import OPEN_AFTER_SECONDS, ResponseStream
from lambda_stream._runtime_api import RuntimeApi
from lambda_stream._settings import Timeouts
from tests.kit.virtual_time import run

INVOCATION = Invocation("id", None, {}, b"{}")


class CountingApi(RuntimeApi):
    """Counts how often a connection is asked for."""

    def __init__(self, port):
        super().__init__("127.0.0.1", port, Timeouts())
        self.asked = 0

    async def connect(self):
        self.asked += 1
        return await super().connect()


@asynccontextmanager
async def listening():
    """Give an address at which somebody takes connections and says nothing."""
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        yield CountingApi(server.sockets[0].getsockname()[1])


def test_the_application_goes_first():
    async def scenario(loop):
        async with listening() as api:
            stream = ResponseStream(api, INVOCATION)
            await loop.advance(0)  # the clock runs from when the application runs
            await loop.advance(OPEN_AFTER_SECONDS * 0.9)
            assert api.asked == 0
            await loop.advance(OPEN_AFTER_SECONDS * 0.2)
            assert api.asked == 1
            await stream.connect()
            assert api.asked == 1, "it is the one that was opened beforehand"
            stream.close()

    run(scenario)


def test_a_response_that_begins_sooner_does_not_wait():
    async def scenario(loop):
        async with listening() as api:
            stream = ResponseStream(api, INVOCATION)
            first, second = await asyncio.gather(stream.connect(), stream.connect())
            assert first is second
            await loop.advance(OPEN_AFTER_SECONDS * 2)
            assert api.asked == 1
            stream.close()

    run(scenario)


def test_what_is_closed_before_is_not_opened():
    async def scenario(loop):
        async with listening() as api:
            ResponseStream(api, INVOCATION).close()
            await loop.advance(OPEN_AFTER_SECONDS * 2)
            assert api.asked == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario)
