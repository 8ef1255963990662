"""The bounded way to a client."""

import asyncio

from chat.domain.events import Event
from chat.http.sse import COMMENT, encoder
from chat.http.sse_writer import BUFFER_BYTES, SEND_BYTES, SseWriter
from tests.kit.virtual_time import VirtualLoop, run


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


class Direct(Client):
    """Also takes what is written at once, as long as there is `room`; keeps what came which way."""

    def __init__(self) -> None:
        super().__init__()
        self.room = True
        self.parts: list[tuple[str, bytes]] = []

    def write(self, data: bytes) -> bool:
        if self.room:
            self.parts.append(("write", data))
            self.received += data
        return self.room

    async def send(self, message) -> None:
        await super().send(message)
        self.parts.append(("send", message["body"]))

    @property
    def ways(self) -> list[str]:
        return [way for way, _ in self.parts]


def delta(number: int, text: str = "x") -> Event:
    return Event(number, "", f'{{"delta":"{text}"}}')


async def test_events_arrive_as_they_come_and_framed():
    client, writer = Client(), SseWriter(encoder("m"), 60)
    pump = asyncio.create_task(writer.run(client.send))
    writer.enqueue([delta(1, "a"), Event(2, "sources", "{}")])
    await client.got.wait()
    assert client.received == b'data: {"delta":"a"}\nid: m:1\n\nevent: sources\ndata: {}\nid: m:2\n\n'
    writer.enqueue([Event(0, "done", "{}")], with_ids=False)
    writer.close()
    await pump
    assert client.received.endswith(b"event: done\ndata: {}\nid: m:done\n\n")


async def test_a_quiet_answer_sends_comments():
    client, writer = Client(), SseWriter(encoder("m"), 0.01)
    pump = asyncio.create_task(writer.run(client.send))
    await client.got.wait()
    assert client.received.startswith(COMMENT)
    writer.close()
    await pump


async def test_what_is_waiting_at_the_end_is_still_sent():
    client, writer = Client(), SseWriter(encoder("m"), 60)
    writer.enqueue([delta(1)])
    writer.close()
    await writer.run(client.send)
    assert b"m:1" in client.received


async def test_a_client_that_leaves_a_full_buffer_unread_is_given_up():
    client, writer = Client(), SseWriter(encoder("m"), 60)
    client.reads.clear()
    big = delta(1, "x" * (BUFFER_BYTES // 4))
    pump = asyncio.create_task(writer.run(client.send))
    for _ in range(6):
        writer.enqueue([big])
        await asyncio.sleep(0)
    assert writer.client_gone
    client.reads.set()
    await pump


async def test_a_client_that_reads_nothing_is_given_up():
    client, writer = Client(), SseWriter(encoder("m"), 60, send_timeout_seconds=0.01)
    client.reads.clear()
    writer.enqueue([delta(1)])
    await writer.run(client.send)
    assert writer.client_gone


async def test_a_broken_connection_gives_the_client_up_and_takes_further_events():
    writer = SseWriter(encoder("m"), 60)

    async def broken(message) -> None:
        raise ConnectionResetError

    writer.enqueue([delta(1)])
    await writer.run(broken)
    assert writer.client_gone
    writer.enqueue([delta(2)])


async def test_a_replay_larger_than_the_buffer_reaches_a_client_that_reads():
    """Of an answer of many tokens, whose frames are much longer than its text."""
    client, writer = Client(), SseWriter(encoder("m"), 60)
    pump = asyncio.create_task(writer.run(client.send))
    text = "가" * 8192
    for number in range(1, 101):
        writer.enqueue([delta(number, text)])
    writer.enqueue([Event(0, "done", "{}")])
    writer.close()
    await pump
    assert not writer.client_gone
    assert len(client.received) > 2 * BUFFER_BYTES
    assert client.received.count(text.encode()) == 100
    assert client.received.endswith(b"id: m:done\n\n")


async def test_a_slow_client_is_given_its_patience_for_each_part_of_a_long_replay():
    parts = []

    async def slow(message) -> None:
        await asyncio.sleep(0.02)
        parts.append(message["body"])

    writer = SseWriter(encoder("m"), 60, send_timeout_seconds=0.1)
    writer.enqueue([delta(1, "x" * SEND_BYTES * 10)])
    writer.close()
    await writer.run(slow)
    assert not writer.client_gone
    assert max(map(len, parts)) == SEND_BYTES


async def idle(writer: SseWriter, client: Direct) -> asyncio.Task[None]:
    """Start the pump, and let it wait for something to send."""
    writer.enqueue([delta(0)])
    pump = asyncio.create_task(writer.run(client.send, client.write))
    await client.got.wait()
    await asyncio.sleep(0)
    client.parts.clear()
    client.received = b""
    return pump


async def test_an_event_before_which_nothing_waits_is_written_at_once():
    client, writer = Direct(), SseWriter(encoder("m"), 60)
    pump = await idle(writer, client)
    writer.enqueue([delta(1)])
    writer.enqueue([delta(2)])
    assert client.parts == [
        ("write", b'data: {"delta":"x"}\nid: m:1\n\n'),
        ("write", b'data: {"delta":"x"}\nid: m:2\n\n'),
    ]
    writer.close()
    await pump
    assert client.ways == ["write", "write"]


async def test_what_cannot_be_written_at_once_is_sent_and_nothing_overtakes_it():
    client, writer = Direct(), SseWriter(encoder("m"), 60)
    pump = await idle(writer, client)
    client.room = False
    writer.enqueue([delta(1)])
    client.room = True
    writer.enqueue([delta(2)])
    writer.close()
    await pump
    assert client.ways == ["send"]
    assert client.received.index(b"m:1") < client.received.index(b"m:2")


async def test_a_long_replay_is_sent_in_parts_and_not_written_at_once():
    client, writer = Direct(), SseWriter(encoder("m"), 60)
    pump = await idle(writer, client)
    writer.enqueue([delta(1, "x" * SEND_BYTES)])
    writer.enqueue([delta(2)])
    writer.close()
    await pump
    assert set(client.ways) == {"send"}
    assert client.received.endswith(b"id: m:2\n\n")


async def test_nothing_is_written_to_a_client_that_was_given_up():
    client, writer = Direct(), SseWriter(encoder("m"), 60, send_timeout_seconds=0.01)
    pump = await idle(writer, client)
    client.room = False
    client.reads.clear()
    writer.enqueue([delta(1)])
    await pump
    client.room = True
    writer.enqueue([delta(2)])
    assert (writer.client_gone, client.parts) == (True, [])


def test_a_comment_comes_a_heartbeat_after_what_was_last_written_at_once():
    async def main(loop: VirtualLoop) -> None:
        client, writer = Direct(), SseWriter(encoder("m"), 10)
        pump = await idle(writer, client)
        await loop.advance(7)
        writer.enqueue([delta(1)])
        await loop.advance(7)
        assert client.ways == ["write"]
        await loop.advance(3)
        assert client.parts[1:] == [("send", COMMENT)]
        writer.close()
        await pump

    run(main)
