"""The bounded way to a client."""

import asyncio

from chat.answer import Event
from chat.web.outlet import BUFFER_BYTES, Outlet
from chat.web.sse import COMMENT


class Client:
    """Takes what is sent, and can stop reading."""

    def __init__(self) -> None:
        self.received = b""
        self.reads = asyncio.Event()
        self.reads.set()
        self.got = asyncio.Event()

    async def send(self, message) -> None:
        await self.reads.wait()
        self.received += message["body"]
        self.got.set()


def delta(number: int, text: str = "x") -> Event:
    return Event(number, "", f'{{"delta":"{text}"}}')


async def test_events_arrive_as_they_come_and_framed():
    client, outlet = Client(), Outlet("m", 60)
    pump = asyncio.create_task(outlet.pump(client.send))
    outlet.put([delta(1, "a"), Event(2, "sources", "{}")])
    await client.got.wait()
    assert client.received == b'data: {"delta":"a"}\nid: m:1\n\nevent: sources\ndata: {}\nid: m:2\n\n'
    outlet.put([Event(0, "done", "{}")], with_ids=False)
    outlet.close()
    await pump
    assert client.received.endswith(b"event: done\ndata: {}\nid: m:done\n\n")


async def test_a_quiet_answer_sends_comments():
    client, outlet = Client(), Outlet("m", 0.01)
    pump = asyncio.create_task(outlet.pump(client.send))
    await client.got.wait()
    assert client.received.startswith(COMMENT)
    outlet.close()
    await pump


async def test_what_is_waiting_at_the_end_is_still_sent():
    client, outlet = Client(), Outlet("m", 60)
    outlet.put([delta(1)])
    outlet.close()
    await outlet.pump(client.send)
    assert b"m:1" in client.received


async def test_a_client_that_leaves_a_full_buffer_unread_is_given_up():
    client, outlet = Client(), Outlet("m", 60)
    client.reads.clear()
    big = delta(1, "x" * (BUFFER_BYTES // 4))
    pump = asyncio.create_task(outlet.pump(client.send))
    for _ in range(6):
        outlet.put([big])
    assert outlet.is_abandoned
    client.reads.set()
    await pump


async def test_a_client_that_reads_nothing_is_given_up():
    client, outlet = Client(), Outlet("m", 60, patience_seconds=0.01)
    client.reads.clear()
    outlet.put([delta(1)])
    await outlet.pump(client.send)
    assert outlet.is_abandoned


async def test_a_broken_connection_gives_the_client_up_and_takes_further_events():
    outlet = Outlet("m", 60)

    async def broken(message) -> None:
        raise ConnectionResetError

    outlet.put([delta(1)])
    await outlet.pump(broken)
    assert outlet.is_abandoned
    outlet.put([delta(2)])
