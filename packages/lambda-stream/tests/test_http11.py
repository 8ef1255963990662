"""HTTP/1.1 as bytes: requests, chunks, trailers, and responses however they are split."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_stream._errors import Disconnected, RuntimeApiError
from lambda_stream._http11 import LAST_CHUNK, chunk, last_chunk, read_body, read_head, request

SIMPLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a:  2 \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\n09\r\n\r\n and on\r\n0\r\nTrailer-Field: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + SIMPLE


async def read(*pieces, end=True):
    """Read one response out of `pieces` that arrive one after the other."""
    reader = asyncio.StreamReader(limit=1024)

    async def arrive():
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)  # lets the reader run between two pieces
        if end:
            reader.feed_eof()

    arriving = asyncio.create_task(arrive())
    try:
        head = await read_head(reader)
        return head, await read_body(reader, head)
    finally:
        await arriving


@pytest.mark.parametrize(
    ("response", "body"), [(SIMPLE, b"hello"), (CHUNKED, b"hello\r\n and on"), (INTERIM, b"hello")]
)
async def test_a_response_is_the_same_split_at_every_byte(response, body):
    for cut in range(1, len(response)):
        head, got = await read(response[:cut], response[cut:])
        assert head.status == 200
        assert got == body
    head, got = await read(*(bytes([byte]) for byte in response))
    assert got == body


async def test_header_names_are_lower_case_and_repeats_are_joined():
    head, _ = await read(SIMPLE)
    assert head.headers == {"content-length": "5", "x-a": "1, 2"}


async def test_a_second_response_on_the_connection_is_left_in_the_reader():
    reader = asyncio.StreamReader()
    reader.feed_data(SIMPLE + CHUNKED)
    for expected in (b"hello", b"hello\r\n and on"):
        assert await read_body(reader, await read_head(reader)) == expected


async def test_a_body_without_a_length_reaches_to_the_end_of_the_connection():
    _, body = await read(b"HTTP/1.0 200 OK\r\n\r\n", b"to ", b"the end")
    assert body == b"to the end"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_do_not_wait_for_one(status):
    _, body = await read(b"HTTP/1.1 %d\r\n\r\n" % status, end=False)
    assert body == b""


async def test_a_body_may_be_larger_than_the_reader_s_buffer():
    large = b"x" * 100_000
    _, body = await read(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", large)
    assert body == large
    _, body = await read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", chunk(large), LAST_CHUNK)
    assert body == large


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", False),
    ],
)
async def test_a_head_says_whether_the_connection_can_be_used_again(head, closes):
    assert (await read(head + b"\r\n\r\n"))[0].closes is closes


async def test_a_connection_that_ends_before_a_byte_is_told_apart_from_one_that_is_cut():
    with pytest.raises(Disconnected):
        await read(b"")
    for cut in range(1, len(SIMPLE)):
        with pytest.raises(RuntimeApiError) as caught:
            await read(SIMPLE[:cut])
        assert not isinstance(caught.value, Disconnected)
    for cut in range(1, len(CHUNKED)):
        with pytest.raises(RuntimeApiError, match="cut off"):
            await read(CHUNKED[:cut])


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(garbage):
    with pytest.raises(RuntimeApiError):
        await read(garbage)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_chunks_read_back_as_what_was_written(parts):
    encoded = b"".join(map(chunk, parts)) + LAST_CHUNK
    _, body = asyncio.run(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + encoded))
    assert body == b"".join(parts)


def test_a_chunk_is_its_size_in_hexadecimal_and_the_data():
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_trailers_follow_the_last_chunk():
    assert last_chunk({"A-B": "c", "D": "e"}) == b"0\r\nA-B: c\r\nD: e\r\n\r\n"
    assert last_chunk({}) == LAST_CHUNK


def test_a_request_is_its_line_its_headers_and_its_body():
    assert request("POST", "/x", {"Host": "h:1", "Content-Length": "2"}, b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: h:1\r\nContent-Length: 2\r\n\r\n{}"
    )
