"""When nobody reads: sends wait, the application may give one up, and no wait is without an end."""

import asyncio
import socket

import pytest

from lambda_stream._connection import Connection
from lambda_stream._errors import ResponseClosed
from lambda_stream._http11 import Head
from lambda_stream._invocation import Invocation
from lambda_stream._response import ResponseStream
from lambda_stream._runtime_api import RuntimeApi as Client
from lambda_stream._settings import Timeouts
from lambda_stream.testing import RuntimeApi
from tests.kit.events import load_event
from tests.kit.lambda_loop import QUICK, running
from tests.kit.waiting import until

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = 64 * 1024
MOST = 64 << 20
"""More than sockets hold on any machine."""


def body(data=b"", more=True):
    return {"type": "http.response.body", "body": data, "more_body": more}


class Sender:
    """An application that sends numbered pieces until it has sent `MOST` bytes, or a send stays pending too long."""

    def __init__(self, patience_seconds=None):
        self.patience_seconds = patience_seconds
        self.sent = []
        self.seen = []
        self.given_up = None
        self.failed = None
        self.more = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["path"] != "/health":
            await send(START)
            await send(body(b"hello", more=False))
            return
        await send(START)
        try:
            for number in range(MOST // PIECE):
                piece = number.to_bytes(4, "big") * (PIECE // 4)
                async with asyncio.timeout(self.patience_seconds):
                    await send(body(piece))
                self.sent.append(piece)
        except TimeoutError:
            self.given_up = piece
            await self.more.wait()
            await send(body(b"", more=False))
        except OSError as error:
            self.failed = error
            raise

    def is_stuck(self):
        """Tell, when polled, whether nothing could be sent over the last 20 times."""
        self.seen.append(len(self.sent))
        return len(self.seen) > 20 and 0 < self.seen[-20] == self.seen[-1]


def narrow_api():
    """One with a buffer so small that a sender soon feels that nothing is read."""
    return RuntimeApi(receive_buffer_bytes=16 * 1024)


def stalled(api):
    handed = api.invoke(load_event("health"))
    handed.pause()
    return handed


async def test_sends_wait_for_a_reader_that_stalls_and_nothing_is_lost_when_it_goes_on():
    sender = Sender()
    async with narrow_api() as api, running(sender, api):
        handed = stalled(api)
        await until(sender.is_stuck, "the application waits")
        assert len(sender.sent) * PIECE < MOST // 2, "what is not read is not piled up"
        handed.resume()
        await until(handed.ended.is_set)
        assert handed.chunks[1:] == sender.sent
        assert sum(map(len, sender.sent)) == MOST


async def test_a_send_that_the_application_gives_up_has_sent_nothing():
    sender = Sender(patience_seconds=0.2)
    async with narrow_api() as api, running(sender, api):
        handed = stalled(api)
        await until(lambda: sender.given_up, "a send was given up")
        handed.resume()
        sender.more.set()
        await until(handed.ended.is_set)
        assert handed.chunks[1:] == sender.sent
        assert sender.given_up not in handed.chunks


async def test_a_reader_that_stays_away_keeps_no_slot_for_long_once_the_application_has_finished():
    sender = Sender(patience_seconds=0.1)
    sender.more.set()
    async with (
        narrow_api() as api,
        running(sender, api, concurrency=2, timeouts=QUICK),
    ):
        handed = stalled(api)
        await until(lambda: sender.given_up)
        await until(lambda: api.polls == 3 and api.waiting == 2, "both slots poll again")
        handed.resume()
        await until(handed.broken.is_set, "the response was not ended as if it were whole")
        other = api.invoke(load_event("stream_chat"))
        await until(other.ended.is_set)
        assert other.body == b"hello"


async def test_alone_in_its_process_the_loop_ends_rather_than_poll_behind_an_unfinished_response():
    sender = Sender(patience_seconds=0.1)
    sender.more.set()
    async with narrow_api() as api, running(sender, api, timeouts=QUICK) as loop:
        stalled(api)
        assert await loop.ended is False
        assert api.polls == 1


async def test_a_send_without_patience_of_its_own_fails_at_last_with_an_os_error():
    sender = Sender()
    async with (
        narrow_api() as api,
        running(sender, api, concurrency=2, timeouts=QUICK),
    ):
        stalled(api)
        await until(lambda: sender.failed, "the send failed")
        await until(lambda: api.waiting == 2, "both slots poll again")
        assert isinstance(sender.failed, OSError)


class Trickle:
    """A connection of which nothing is ever taken whole, but a little in each of some periods."""

    def __init__(self, periods):
        self.left = [*range(periods, 0, -1)]
        self.drains = 0

    @property
    def buffered_bytes(self):
        return self.left[0]

    async def drain(self):
        self.drains += 1
        if len(self.left) > 1:
            del self.left[0]
        await asyncio.Event().wait()

    def write(self, data):
        pass

    def limit_buffer(self, most_bytes):
        pass

    def abort(self):
        pass

    async def head(self):
        await asyncio.Event().wait()


async def test_a_slow_reader_is_waited_for_as_long_as_it_takes_anything_at_all():
    connection = Trickle(periods=6)

    class Api(Client):
        async def connect(self):
            return connection

    stream = ResponseStream(Api("127.0.0.1", 1, Timeouts(stall=0.01)), Invocation("id", None, {}, b""))
    await stream.start(b"prelude")
    stream.finish()
    with pytest.raises(ResponseClosed, match=r"nothing was taken for 0\.01 s"):
        await stream.settle()
    assert connection.drains == 6, "five periods with progress, one without"
    stream.close()


class Full(Trickle):
    """A connection that has no room until `drained`, and keeps what is written."""

    def __init__(self):
        super().__init__(periods=1)
        self.left = [1 << 20]
        self.drained = asyncio.Event()
        self.answered = asyncio.Event()
        self.written = []

    async def head(self):
        await self.answered.wait()
        return Head(413, {})

    async def drain(self):
        await self.drained.wait()

    def write(self, data):
        self.written.append(data)


async def test_what_is_written_at_once_needs_room_and_overtakes_no_send_that_waits():
    connection = Full()

    class Api(Client):
        async def connect(self):
            return connection

    stream = ResponseStream(Api("127.0.0.1", 1, Timeouts()), Invocation("id", None, {}, b""))
    await stream.start(b"prelude")
    assert not stream.write_now(b"without room")
    waiting = asyncio.create_task(stream.write(b"first"))
    await asyncio.sleep(0)
    connection.left = [0]
    assert not stream.write_now(b"early")
    connection.drained.set()
    await waiting
    assert stream.write_now(b"second")
    assert connection.written[1:] == [b"5\r\nfirst\r\n", b"6\r\nsecond\r\n"]
    stream.close()


async def test_nothing_is_written_at_once_to_a_response_that_was_answered_before_its_end():
    connection = Full()
    connection.left = [0]

    class Api(Client):
        async def connect(self):
            return connection

    stream = ResponseStream(Api("127.0.0.1", 1, Timeouts()), Invocation("id", None, {}, b""))
    await stream.start(b"prelude")
    assert stream.write_now(b"first")
    connection.answered.set()
    await until(lambda: stream.is_broken)
    assert not stream.write_now(b"second")
    assert connection.written[1:] == [b"5\r\nfirst\r\n"]
    stream.close()


async def test_a_send_that_waits_while_the_response_is_ended_for_the_application_sends_nothing_any_more():
    """It waits in a task of its own, which the cancellation of the application does not reach."""
    sender, ended, senders = Sender(), asyncio.Event(), []

    async def application(scope, receive, send):
        senders.append(asyncio.create_task(sender(scope, receive, send)))
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            await receive()  # returns when the response has ended
            ended.set()

    timeouts = Timeouts(drain=0.05, unwind=0.05, send_stall=30, stall=30, grace=30)
    async with (
        narrow_api() as api,
        running(application, api, timeouts=timeouts) as loop,
    ):
        handed = stalled(api)
        await until(sender.is_stuck)
        loop.stop.set()
        await ended.wait()
        sent = len(sender.sent)
        handed.resume()
        await asyncio.wait(senders)
        assert len(sender.sent) == sent
        assert isinstance(sender.failed, ResponseClosed)
        await until(handed.ended.is_set)
        assert handed.trailers["lambda-runtime-function-error-type"] == "Runtime.ShuttingDown"


async def test_a_response_that_is_never_answered_keeps_no_slot_for_long():
    async with (
        narrow_api() as api,
        running(Sender(), api, concurrency=2, timeouts=QUICK),
    ):
        handed = api.invoke(load_event("stream_chat"))
        handed.withhold()
        await until(lambda: api.polls == 3 and api.waiting == 2, "both slots poll again")
        assert handed.body == b"hello"


@pytest.mark.parametrize("size", [1, PIECE, 5 << 20])
async def test_pieces_of_any_size_are_one_chunk_each(size):
    async def application(scope, receive, send):
        await send(START)
        for _ in range(2):
            await send(body(b"x" * size))

    async with narrow_api() as api, running(application, api):
        handed = api.invoke(load_event("health"))
        await until(handed.ended.is_set)
        assert [len(chunk) for chunk in handed.chunks[1:]] == [size, size]


async def test_small_writes_are_not_held_back():
    async with (
        narrow_api() as api,
        await Connection.open("127.0.0.1", api.port, 1) as connection,
    ):
        assert connection._writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
