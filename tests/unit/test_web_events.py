"""The response that streams an answer, on a server played by the test."""

from __future__ import annotations

import asyncio

import pytest

from chat.domain.events import Event
from chat.http.event_stream import EventStreamResponse
from chat.http.sse import encoder
from tests.kit.waiting import until


class Server:
    """Takes a response; `sent` by ASGI's `send`, `written` by what lambda_stream offers beside it."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.written: list[bytes] = []

    @property
    def sent(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message.get("body")]

    async def send(self, message) -> None:
        self.messages.append(message)

    def write(self, body: bytes) -> bool:
        self.written.append(body)
        return True


class Steps:
    """A stream of the events in a queue, until there is a None."""

    def __init__(self, queue: asyncio.Queue) -> None:
        self.queue, self.closed = queue, 0

    async def run(self, deliver) -> None:
        while (event := await self.queue.get()) is not None:
            deliver([event], True)

    async def close(self) -> None:
        self.closed += 1


async def answer(server: Server, scope: dict, steps: asyncio.Queue) -> None:
    stream = Steps(steps)
    await respond(stream, server.send, must_finish=True, **scope)
    assert stream.closed == 1


async def respond(stream: Steps, send, must_finish: bool, **scope) -> None:
    async def receive():
        await asyncio.Event().wait()

    await EventStreamResponse(stream, encoder("m"), 60, must_finish)({"type": "http", **scope}, receive, send)


@pytest.mark.parametrize("must_finish", [True, False])
async def test_a_stream_is_closed_when_its_client_has_gone(must_finish):
    """Gone before the first byte, while it waits, and cut off by the server."""

    async def gone(message) -> None:
        raise ConnectionResetError

    queue: asyncio.Queue = asyncio.Queue()
    queue.put_nowait(None)
    stream = Steps(queue)
    await respond(stream, gone, must_finish)
    assert stream.closed == 1
    server, stream = Server(), Steps(asyncio.Queue())
    cut = asyncio.create_task(respond(stream, server.send, must_finish))
    await until(lambda: server.messages, "the response has begun")
    cut.cancel()
    await asyncio.wait([cut])
    assert (cut.cancelled(), stream.closed) == (True, 1)


async def test_deltas_are_written_at_once_where_the_server_can():
    server, steps = Server(), asyncio.Queue()
    answering = asyncio.create_task(
        answer(server, {"extensions": {"lambda_stream.write": {"write": server.write}}}, steps)
    )
    await until(lambda: server.messages, "the response has begun")
    for number in range(1, 4):
        steps.put_nowait(Event(number, "", "{}"))
    steps.put_nowait(None)
    await answering
    assert server.written == [b"data: {}\nid: m:%d\n\n" % number for number in range(1, 4)]
    assert server.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_on_any_other_server_everything_is_sent():
    server, steps = Server(), asyncio.Queue()
    for number in range(1, 4):
        steps.put_nowait(Event(number, "", "{}"))
    steps.put_nowait(None)
    await answer(server, {}, steps)
    assert b"".join(server.sent) == b"".join(b"data: {}\nid: m:%d\n\n" % number for number in range(1, 4))
