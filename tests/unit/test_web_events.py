"""The response that streams an answer, on a server played by the test."""

from __future__ import annotations

import asyncio

from chat.domain.events import Event
from chat.http.event_stream import EventStreamResponse
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


async def answer(server: Server, scope: dict, steps: asyncio.Queue) -> None:
    async def run(deliver) -> None:
        while (event := await steps.get()) is not None:
            deliver([event], True)

    async def receive():
        await asyncio.Event().wait()

    await EventStreamResponse(run, "m", 60, must_finish=True)({"type": "http", **scope}, receive, server.send)


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
