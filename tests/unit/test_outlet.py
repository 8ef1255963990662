"""The bounded way to a client."""

import asyncio

from chat.answer import Event
from chat.web.outlet import BUFFER_BYTES, SEND_BYTES, Outlet
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
        await asyncio.sleep(0)
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


async def test_a_replay_larger_than_the_buffer_reaches_a_client_that_reads():
    """Of an answer of many tokens, whose frames are much longer than its text."""
    client, outlet = Client(), Outlet("m", 60)
    pump = asyncio.create_task(outlet.pump(client.send))
    text = "가" * 8192
    for number in range(1, 101):
        outlet.put([delta(number, text)])
    outlet.put([Event(0, "done", "{}")])
    outlet.close()
    await pump
    assert not outlet.is_abandoned
    assert len(client.received) > 2 * BUFFER_BYTES
    assert client.received.count(text.encode()) == 100
    assert client.received.endswith(b"id: m:done\n\n")


async def test_a_slow_client_is_given_its_patience_for_each_part_of_a_long_replay():
    parts = []

    async def slow(message) -> None:
        await asyncio.sleep(0.02)
        parts.append(message["body"])

    outlet = Outlet("m", 60, patience_seconds=0.1)
    outlet.put([delta(1, "x" * SEND_BYTES * 10)])
    outlet.close()
    await outlet.pump(slow)
    assert not outlet.is_abandoned
    assert max(map(len, parts)) == SEND_BYTES
