"""Function URL and Runtime API together: the test is the client on one side and the function on the other."""

import asyncio
import json
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from lambda_stream.testing import RuntimeApi
from local.function import Environment, Function
from local.gateway import Gateway
from local.plan import FunctionPlan
from local.process import ManagedProcess, Program, python
from local.process_group_guard import ProcessGroupGuard
from local.server import listen, port_of, serving
from tests.kit.waiting import until

pytestmark = pytest.mark.slow

STREAMING = {
    "lambda-runtime-function-response-mode": "streaming",
    "content-type": "application/vnd.awslambda.http-integration-response",
}
PRELUDE = json.dumps({"statusCode": 200, "headers": {"content-type": "text/plain"}}).encode() + b"\0" * 8
ROOT = "/2018-06-01/runtime"


@dataclass
class Emulator:
    client: httpx.AsyncClient
    """In front of the Function URL."""
    runtime: httpx.AsyncClient
    """In the first process of the function."""
    function: Function
    reports: list[str]

    async def next(self):
        return await self.runtime.get(f"{ROOT}/invocation/next")

    async def respond(self, invocation, content, **headers):
        path = f"{ROOT}/invocation/{invocation.headers['lambda-runtime-aws-request-id']}/response"
        return await self.runtime.post(path, content=content, headers=STREAMING | headers)

    async def both(self, path="/f"):
        """Begin a request, and return it with its invocation."""
        asking = asyncio.create_task(self.client.post(path, content=b"{}"))
        return asking, await self.next()


@asynccontextmanager
async def emulator(tmp_path, timeout_seconds=60.0, concurrency=1, most=1, queue_seconds=15.0):
    """Each process of the function is one that sleeps: the test speaks for the first of them."""
    plan = FunctionPlan("f", tmp_path, "app.app", (), ("/f.*",), timeout_seconds, concurrency, 1, most, queue_seconds)
    program = Program("f", python("-c", "import time; time.sleep(600)"), dict(os.environ), tmp_path, tmp_path / "log")
    reports: list[str] = []
    apis: list[str] = []
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(ProcessGroupGuard())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks: list[asyncio.Task[None]] = []
        stack.callback(lambda: [task.cancel() for task in tasks])
        function = Function(plan, lambda one: tasks.append(group.create_task(one.managed.run())))
        for _ in range(most):
            listener = listen()
            apis.append(f"http://127.0.0.1:{port_of(listener)}")
            environment = Environment(function, ManagedProcess(program, guard, reports.append))
            await stack.enter_async_context(RuntimeApi(environment, listener))
        front = listen()
        url = f"http://127.0.0.1:{port_of(front)}"
        await stack.enter_async_context(serving(Gateway([function], tmp_path), [front], 75, 0))
        (environment,) = function.start(1)
        await until(lambda: environment.managed.is_running)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30))
        runtime = await stack.enter_async_context(httpx.AsyncClient(base_url=apis[0], timeout=30))
        yield Emulator(client, runtime, function, reports)


async def test_an_invocation_carries_event_deadline_and_ids_and_its_response_goes_to_the_client(tmp_path):
    async with emulator(tmp_path) as lambda_:
        asking, invocation = await lambda_.both("/f?a=1")
        event, request_id = invocation.json(), invocation.headers["lambda-runtime-aws-request-id"]
        assert event["rawQueryString"] == "a=1" and event["requestContext"]["requestId"] == request_id
        assert invocation.headers["lambda-runtime-invoked-function-arn"].endswith(":function:f")
        assert int(invocation.headers["lambda-runtime-deadline-ms"]) > event["requestContext"]["timeEpoch"] + 55_000
        assert invocation.headers["lambda-runtime-trace-id"] == event["headers"]["x-amzn-trace-id"]
        assert (await lambda_.respond(invocation, PRELUDE + b"hello")).status_code == 202
        response = await asking
        assert (response.status_code, response.text) == (200, "hello")
        assert response.headers["content-type"] == "text/plain"
        assert response.headers["x-amzn-requestid"] == request_id


async def test_bytes_reach_the_client_before_the_function_has_sent_the_next_ones(tmp_path):
    async with emulator(tmp_path) as lambda_:
        pieces: asyncio.Queue[bytes] = asyncio.Queue()

        async def body():
            while piece := await pieces.get():
                yield piece

        polling = asyncio.create_task(lambda_.next())
        asking = asyncio.create_task(lambda_.client.send(lambda_.client.build_request("POST", "/f"), stream=True))
        responding = asyncio.create_task(lambda_.respond(await polling, body()))
        # The separator itself is split, too.
        pieces.put_nowait(PRELUDE[:-3])
        pieces.put_nowait(PRELUDE[-3:])
        response = await asking
        received = response.aiter_bytes()
        for piece in (b"one", "둘".encode(), b"\0" * 8):
            pieces.put_nowait(piece)
            assert await anext(received) == piece
        pieces.put_nowait(b"")
        assert [rest async for rest in received] == []
        assert (await responding).status_code == 202


async def test_a_result_returned_whole_is_converted(tmp_path):
    async with emulator(tmp_path) as lambda_:
        asking, invocation = await lambda_.both()
        path = f"{ROOT}/invocation/{invocation.headers['lambda-runtime-aws-request-id']}/response"
        result = {"statusCode": 201, "cookies": ["a=1"], "body": "made"}
        assert (await lambda_.runtime.post(path, json=result)).status_code == 202
        response = await asking
        assert (response.status_code, response.text, response.headers["set-cookie"]) == (201, "made", "a=1")


async def test_a_reported_error_is_a_502_without_its_words(tmp_path):
    async with emulator(tmp_path) as lambda_:
        asking, invocation = await lambda_.both()
        request_id = invocation.headers["lambda-runtime-aws-request-id"]
        error = {"errorType": "ValueError", "errorMessage": "a secret"}
        assert (await lambda_.runtime.post(f"{ROOT}/invocation/{request_id}/error", json=error)).status_code == 202
        response = await asking
        assert response.status_code == 502
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["requestId"] == request_id
        assert "secret" not in response.text


@pytest.mark.parametrize("content", [b"no prelude", b"[]" + b"\0" * 8, b""])
async def test_a_response_that_cannot_be_understood_is_a_502(tmp_path, content):
    async with emulator(tmp_path) as lambda_:
        asking, invocation = await lambda_.both()
        await lambda_.respond(invocation, content)
        assert (await asking).status_code == 502


async def test_an_error_in_the_trailers_cuts_the_response(tmp_path):
    async with emulator(tmp_path) as lambda_:
        asking, invocation = await lambda_.both()
        request_id = invocation.headers["lambda-runtime-aws-request-id"]
        reader, writer = await asyncio.open_connection("127.0.0.1", lambda_.runtime.base_url.port)
        head = f"POST {ROOT}/invocation/{request_id}/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in STREAMING.items())
        chunk = b"%x\r\n%b\r\n" % (len(PRELUDE) + 4, PRELUDE + b"part")
        trailer = b"0\r\nLambda-Runtime-Function-Error-Type: Function.Broken\r\n\r\n"
        writer.write(head.encode() + b"\r\n" + chunk + trailer)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202")
        writer.close()
        await writer.wait_closed()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking


async def test_a_function_that_breaks_off_its_response_cuts_that_of_the_client(tmp_path):
    async with emulator(tmp_path) as lambda_:
        stuck = asyncio.Event()

        async def body():
            yield PRELUDE + b"part"
            await stuck.wait()

        polling = asyncio.create_task(lambda_.next())
        request = lambda_.client.build_request("POST", "/f")
        asking = asyncio.create_task(lambda_.client.send(request, stream=True))
        responding = asyncio.create_task(lambda_.respond(await polling, body()))
        received = (await asking).aiter_bytes()
        assert await anext(received) == b"part"
        responding.cancel()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(received)


async def test_a_client_that_goes_away_ends_nothing(tmp_path):
    async with emulator(tmp_path) as lambda_:
        begun = asyncio.Event()

        async def body():
            yield PRELUDE + b"part"
            await begun.wait()
            for _ in range(64):
                yield b"x" * 65_536

        polling = asyncio.create_task(lambda_.next())
        request = lambda_.client.build_request("POST", "/f")
        asking = asyncio.create_task(lambda_.client.send(request, stream=True))
        responding = asyncio.create_task(lambda_.respond(await polling, body()))
        await (await asking).aclose()
        begun.set()
        assert (await responding).status_code == 202


async def test_a_client_that_does_not_read_slows_the_function_down(tmp_path):
    async with emulator(tmp_path) as lambda_:
        sent = 0

        async def body():
            nonlocal sent
            yield PRELUDE
            for _ in range(1024):
                sent += 65_536
                yield b"x" * 65_536

        polling = asyncio.create_task(lambda_.next())
        request = lambda_.client.build_request("POST", "/f")
        asking = asyncio.create_task(lambda_.client.send(request, stream=True))
        responding = asyncio.create_task(lambda_.respond(await polling, body()))
        response = await asking
        before = -1

        def stands_still():
            nonlocal before
            before, same = sent, sent == before
            return same

        await until(stands_still)
        assert not responding.done()
        assert len(await response.aread()) == 1024 * 65_536
        assert (await responding).status_code == 202


async def test_ids_that_are_unknown_and_answers_given_twice_are_refused(tmp_path):
    async with emulator(tmp_path) as lambda_:
        assert (await lambda_.runtime.post(f"{ROOT}/invocation/none/response", content=b"")).status_code == 400
        assert (await lambda_.runtime.get(f"{ROOT}/none")).status_code == 404
        asking, invocation = await lambda_.both()
        wrong = await lambda_.respond(invocation, PRELUDE, **{"lambda-runtime-invocation-id": "another"})
        assert wrong.status_code == 400
        right = {"lambda-runtime-invocation-id": invocation.headers["lambda-runtime-invocation-id"]}
        assert (await lambda_.respond(invocation, PRELUDE, **right)).status_code == 202
        assert (await lambda_.respond(invocation, PRELUDE)).status_code == 400
        assert (await asking).status_code == 200


async def test_a_request_over_six_megabytes_is_refused_without_an_invocation(tmp_path):
    async with emulator(tmp_path) as lambda_:
        for size in (6 * 1024 * 1024 + 1, 5 * 1024 * 1024):  # the second is too large only in Base64
            response = await lambda_.client.post("/f", content=b"x" * size)
            assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
        asking, invocation = await lambda_.both()
        assert invocation.json()["rawPath"] == "/f"
        asking.cancel()


async def test_a_poll_that_is_given_up_loses_no_request(tmp_path):
    async with emulator(tmp_path) as lambda_:
        polling = asyncio.create_task(lambda_.next())
        await until(lambda: lambda_.function.environments[0].managed.ready.is_set())
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        asking, invocation = await lambda_.both()
        await lambda_.respond(invocation, PRELUDE + b"kept")
        assert (await asking).text == "kept"


async def test_a_function_that_is_over_its_time_is_ended_and_the_client_told(tmp_path):
    async with emulator(tmp_path, timeout_seconds=0.2) as lambda_:
        asking, invocation = await lambda_.both()
        response = await asking
        assert (response.status_code, response.json()["title"]) == (504, "Gateway timeout")
        await until(lambda: lambda_.reports)
        assert "SIGKILL" in lambda_.reports[0]
        assert (await lambda_.respond(invocation, PRELUDE)).status_code == 400


async def test_a_stream_that_is_over_its_time_is_cut(tmp_path):
    async with emulator(tmp_path, timeout_seconds=0.5) as lambda_:

        async def body():
            yield PRELUDE + b"part"
            await asyncio.get_running_loop().create_future()

        polling = asyncio.create_task(lambda_.next())
        request = lambda_.client.build_request("POST", "/f")
        asking = asyncio.create_task(lambda_.client.send(request, stream=True))
        responding = asyncio.create_task(lambda_.respond(await polling, body()))
        received = (await asking).aiter_bytes()
        assert await anext(received) == b"part"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(received)
        responding.cancel()


async def test_a_process_with_other_requests_may_end_the_one_that_is_over_its_time_itself(tmp_path):
    async with emulator(tmp_path, timeout_seconds=0.2, concurrency=2) as lambda_:
        asking, invocation = await lambda_.both()
        assert (await asking).status_code == 504
        assert (await lambda_.respond(invocation, PRELUDE)).status_code == 410
        assert lambda_.reports == []


async def test_a_process_that_dies_costs_the_client_a_502_and_is_started_again(tmp_path):
    async with emulator(tmp_path) as lambda_:
        asking, _ = await lambda_.both()
        lambda_.function.environments[0].managed.kill()
        response = await asking
        assert (response.status_code, response.json()["code"]) == (502, "internal_error")
        await until(lambda: lambda_.reports and lambda_.function.environments[0].managed.is_running)
        asking, invocation = await lambda_.both()
        await lambda_.respond(invocation, PRELUDE + b"again")
        assert (await asking).text == "again"


async def test_a_request_is_never_handed_to_a_process_that_has_died(tmp_path):
    async with emulator(tmp_path) as lambda_:
        polling = asyncio.create_task(lambda_.next())
        kept = lambda_.function.environments[0].managed
        await until(kept.ready.is_set)
        kept.kill()
        await until(lambda: lambda_.reports)
        assert (await polling).status_code == 500
        await until(lambda: kept.is_running)
        asking, invocation = await lambda_.both()
        await lambda_.respond(invocation, PRELUDE + b"to the next one")
        assert (await asking).text == "to the next one"


async def test_another_process_is_started_when_a_request_has_to_wait(tmp_path):
    async with emulator(tmp_path, most=2) as lambda_:
        first, invocation = await lambda_.both()
        waiting = asyncio.create_task(lambda_.client.post("/f", content=b"{}"))
        await until(lambda: lambda_.function.environments[1].managed.is_running)
        await lambda_.respond(invocation, PRELUDE + b"first")
        assert (await first).text == "first"
        await lambda_.respond(await lambda_.next(), PRELUDE + b"second")
        assert (await waiting).text == "second"


async def test_a_request_that_no_process_takes_in_time_is_told_to_come_again(tmp_path):
    async with emulator(tmp_path, queue_seconds=0.1) as lambda_:
        response = await lambda_.client.post("/f")
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
        assert response.headers["retry-after"] == "1"
        asking, invocation = await lambda_.both("/f?later")
        assert invocation.json()["rawQueryString"] == "later"
        asking.cancel()


async def test_pages_are_served_beside_the_functions_and_nothing_else_is(tmp_path):
    async with emulator(tmp_path) as lambda_:
        (tmp_path / "index.html").write_text("<p>페이지")
        (tmp_path / "app.js").write_text("1")
        page = await lambda_.client.get("/")
        assert page.text == "<p>페이지" and page.headers["content-type"] == "text/html; charset=utf-8"
        assert "javascript" in (await lambda_.client.get("/app.js")).headers["content-type"]
        for path in ("/none", "/../log", "/%2e%2e/log", "/api/chat"):
            response = await lambda_.client.get(path)
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
        refused = await lambda_.client.post("/")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
