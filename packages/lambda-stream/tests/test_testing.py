"""The emulated Runtime API as any client sees it: the test speaks HTTP to it by hand."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from lambda_stream.testing import ErrorReport, RuntimeApi, function_url_event
from lambda_stream.testing._requests import BadRequest, RequestEnd, RequestHead, RequestParser
from lambda_stream.testing.fixtures import runtime_api
from tests.kit.waiting import until

__all__ = ["runtime_api"]

RUNTIME = "/2018-06-01/runtime"
NEXT = f"GET {RUNTIME}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()

CHUNKED = (
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-One:  1 \r\n\r\n"
    b"3\r\none\r\nA;ignored=1\r\n0123456789\r\n0\r\nTrailer-One: x\r\ntrailer-two: y\r\n\r\n"
)
SIZED = b"POST /b HTTP/1.1\r\ncontent-length: 4\r\nconnection: Close\r\n\r\nbody"
PLAIN = b"GET /c HTTP/1.1\r\n\r\n"


def parse(pieces):
    parser = RequestParser()
    for piece in pieces:
        parser.feed(piece)
        while (part := parser.next()) is not None:
            yield part


@pytest.mark.parametrize("at", range(1, len(CHUNKED + SIZED + PLAIN)))
def test_requests_are_read_however_they_are_cut(at):
    whole = CHUNKED + SIZED + PLAIN
    parts = list(parse([whole[:at], whole[at:]]))
    chunked, first, second, end, sized, *body, sized_end, plain, plain_end = parts
    assert (chunked.method, chunked.target, chunked.headers["x-one"], chunked.closes) == ("POST", "/a", "1", False)
    assert (first, second) == (b"one", b"0123456789"), "chunks keep their bounds"
    assert end == RequestEnd({"trailer-one": "x", "trailer-two": "y"})
    assert isinstance(sized, RequestHead) and sized.closes
    assert b"".join(body) == b"body"
    assert (sized_end, plain.target, plain_end) == (RequestEnd(), "/c", RequestEnd())


@pytest.mark.parametrize(
    "data",
    [
        b"no http\r\n\r\n",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"x" * 100_000,
    ],
)
def test_what_is_no_request_is_refused(data):
    with pytest.raises(BadRequest):
        list(parse([data]))


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, request):
        self.writer.write(request)
        return await self.answer()

    async def answer(self):
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status_line.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def post(self, path, body=b"", **headers):
        fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return await self.ask(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)


@asynccontextmanager
async def connected(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def test_an_invocation_is_handed_out_and_its_answer_recorded_on_one_kept_connection(runtime_api):
    async with connected(runtime_api) as client:
        for number in range(2):
            invocation = runtime_api.invoke(function_url_event("POST", "/x", f"body {number}"))
            status, headers, payload = await client.ask(NEXT)
            assert (status, headers["lambda-runtime-aws-request-id"]) == (200, invocation.request_id)
            assert json.loads(payload)["body"] == f"body {number}"
            path = f"{RUNTIME}/invocation/{invocation.request_id}/response"
            assert (await client.post(path, b"{}"))[0] == 202
            assert (invocation.chunks, invocation.responses, invocation.ended.is_set()) == ([b"{}"], 1, True)
    assert (runtime_api.accepted, runtime_api.refusals) == (1, [])


async def test_an_answer_counts_once_and_only_for_what_was_handed_out(runtime_api):
    async with connected(runtime_api) as client:
        invocation = runtime_api.invoke({}, invocation_id="attempt-1")
        path = f"{RUNTIME}/invocation/{invocation.request_id}"
        assert (await client.post(f"{path}/response", b"too early"))[0] == 400
        await client.ask(NEXT)
        assert (await client.post(f"{path}/response", b"", Lambda_Runtime_Invocation_Id="attempt-2"))[0] == 400
        client.writer.write(f"POST {path}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".encode())
        await invocation.begun.wait()
        async with connected(runtime_api) as other:
            assert (await other.post(f"{path}/error", b"{}"))[0] == 403
        client.writer.write(b"0\r\n\r\n")
        assert (await client.answer())[0] == 202
        assert (await client.post(f"{path}/response", b"again"))[0] == 400
        assert invocation.chunks == [b"x"] and invocation.error is None
        assert len(runtime_api.refusals) == 4


async def test_an_error_report_ends_the_invocation(runtime_api):
    async with connected(runtime_api) as client:
        invocation = runtime_api.invoke({})
        await client.ask(NEXT)
        document = {"errorType": "Function.Bad", "errorMessage": "no"}
        path = f"{RUNTIME}/invocation/{invocation.request_id}/error"
        assert (await client.post(path, json.dumps(document).encode()))[0] == 202
        assert invocation.error == ErrorReport("Function.Bad", document)
        assert invocation.error.message == "no"


async def test_a_poll_that_is_given_up_loses_nothing(runtime_api):
    async with connected(runtime_api) as gone:
        gone.writer.write(NEXT)
        await until(lambda: runtime_api.waiting == 1)
    await until(lambda: runtime_api.waiting == 0)
    invocation = runtime_api.invoke({})
    async with connected(runtime_api) as client:
        assert (await client.ask(NEXT))[1]["lambda-runtime-aws-request-id"] == invocation.request_id


async def test_restore_next_waits_for_the_restore_and_its_failure_is_heard():
    async with RuntimeApi() as api, connected(api) as client:
        api.is_restored = False
        client.writer.write(f"GET {RUNTIME}/restore/next HTTP/1.1\r\n\r\n".encode())
        await api.at_snapshot.wait()
        api.restore()
        assert (await client.answer())[0] == 200
        report = {"errorType": "Runtime.AfterRestoreError", "errorMessage": "no"}
        assert (await client.post(f"{RUNTIME}/restore/error", json.dumps(report).encode()))[0] == 202
        assert (await client.post(f"{RUNTIME}/init/error", json.dumps(report).encode()))[0] == 202
        assert [error.error_type for error in api.restore_errors] == ["Runtime.AfterRestoreError"]
        assert len(api.init_errors) == 1


async def test_an_internal_extension_may_register_for_no_shutdown(runtime_api):
    root = "/2020-01-01/extension"
    async with connected(runtime_api) as client:
        refused = await client.post(f"{root}/register", b'{"events": ["SHUTDOWN"]}', Lambda_Extension_Name="mine")
        assert refused[0] == 403
        status, headers, _ = await client.post(f"{root}/register", b'{"events": []}', Lambda_Extension_Name="mine")
        assert status == 200 and runtime_api.extensions == {"mine": []}
        identifier = headers["lambda-extension-identifier"]
        poll = f"GET {root}/event/next HTTP/1.1\r\nLambda-Extension-Identifier: {identifier}\r\n\r\n"
        client.writer.write(poll.encode())
        await runtime_api.extensions_ready.wait()


async def test_what_is_no_http_is_answered_and_closed(runtime_api):
    async with connected(runtime_api) as client:
        assert (await client.ask(b"nonsense\r\n\r\n"))[0] == 400
        assert await client.reader.read() == b""
