"""The loop: polling through every kind of trouble, deadlines, several at once, and stopping."""

import asyncio
import gc
import json
import os
import socket
import time
from pathlib import Path

import pytest

from lambda_stream import trace_id
from lambda_stream._invocation_handler import InvocationHandler
from lambda_stream._log import StderrHandler, configure, logger
from lambda_stream._runtime_api import RuntimeApi as Client
from lambda_stream._settings import Timeouts
from lambda_stream._worker_pool import WorkerPool
from lambda_stream.testing import RuntimeApi
from tests.kit.events import load_event
from tests.kit.lambda_loop import QUICK, running
from tests.kit.waiting import until

START = {"type": "http.response.start", "status": 200, "headers": []}


async def hello(scope, receive, send):
    await receive()
    await send(START)
    await send({"type": "http.response.body", "body": b"hello"})


def logged(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_the_poll_connection_is_kept_and_each_response_has_its_own():
    async with RuntimeApi() as api, running(hello, api):
        for _ in range(5):
            await until(api.invoke(load_event("health")).ended.is_set)
        await until(lambda: api.waiting == 1)
        assert api.accepted == 1 + 5
        assert api.polls == 6
        await until(lambda: api.connections == 1, "response connections are closed")


@pytest.mark.parametrize("fault", ["drop", "cut", "garbage", "close", 403, 500])
async def test_no_invocation_is_lost_to_a_poll_that_fails(fault, capsys):
    async with RuntimeApi() as api, running(hello, api):
        await until(api.invoke(load_event("health")).ended.is_set)
        await until(lambda: api.waiting == 1)
        api.poll_script.append(fault)  # for the poll after the one that waits now
        first, second = api.invoke(load_event("health")), api.invoke(load_event("stream_chat"))
        await until(second.ended.is_set)
        assert (first.body, second.body) == (b"hello", b"hello")
        assert (first.responses, second.responses) == (1, 1)
    if isinstance(fault, int):
        assert f"answered a poll with {fault}" in logged(capsys)[0]["message"]


async def test_a_connection_that_is_announced_to_close_is_not_polled_on_again():
    async with RuntimeApi() as api, running(hello, api):
        api.poll_script.append("announce")
        await until(api.invoke(load_event("health")).ended.is_set)
        await until(lambda: api.waiting == 1 and api.connections == 1)
        assert api.polls == 2
        assert api.accepted == 3, "two polls and a response, each on a connection of its own"


async def test_a_poll_connection_that_died_meanwhile_is_replaced_and_that_is_no_failure():
    """As after a freeze: the server has closed it without a word while the invocation ran."""
    async with RuntimeApi() as api, running(hello, api, timeouts=Timeouts(max_poll_failures=0)):
        api.poll_script.append("vanish")
        first, second = api.invoke(load_event("health")), api.invoke(load_event("health"))
        await until(second.ended.is_set)
        assert first.body == second.body == b"hello"
        await until(lambda: api.polls == 3)


async def test_when_polling_keeps_failing_the_loop_ends_by_itself(capsys):
    async with RuntimeApi() as api:
        api.poll_script.extend(["drop"] * 20)
        timeouts = Timeouts(max_poll_failures=2)
        async with running(hello, api, timeouts=timeouts) as loop:
            assert await loop.ended is False
        assert api.polls == 3
    assert "polling failed 3 times in a row" in logged(capsys)[-1]["message"]


async def test_when_nobody_listens_the_loop_ends_by_itself():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    client = Client("127.0.0.1", port, Timeouts(max_poll_failures=1))
    assert await WorkerPool(InvocationHandler(hello, {}, client), client, 1).run(asyncio.Event()) is False


async def test_failures_do_not_add_up_over_successful_polls():
    async with RuntimeApi() as api, running(hello, api, timeouts=Timeouts(max_poll_failures=1)):
        for _ in range(4):
            await until(lambda: api.waiting == 1)
            api.poll_script.append("drop")
            await until(api.invoke(load_event("health")).ended.is_set)


@pytest.mark.parametrize(("status", "level"), [(400, "ERROR"), (403, "ERROR"), (413, "ERROR"), (410, "WARNING")])
@pytest.mark.parametrize("event", ["health", "other_sqs"])
async def test_refused_answers_are_logged_and_the_loop_goes_on(status, level, event, capsys):
    async with RuntimeApi() as api, running(hello, api):
        refused = api.invoke(load_event(event), status=status)
        await until(refused.ended.is_set)
        await until(api.invoke(load_event("health")).ended.is_set)
    record = next(record for record in reversed(logged(capsys)) if record["requestId"] == refused.request_id)
    assert record["level"] == level
    assert ("timed out" if status == 410 else str(status)) in record["message"]


@pytest.mark.parametrize("event", ["health", "other_sqs"])
async def test_a_500_to_an_answer_means_that_the_process_ends(event):
    async with RuntimeApi() as api, running(hello, api) as loop:
        api.invoke(load_event(event), status=500)
        assert await loop.ended is False
        assert api.polls == 1


@pytest.mark.parametrize("status", [410, 413])
async def test_an_answer_that_comes_before_the_end_stops_the_application_s_sends(status):
    caught = []

    async def application(scope, receive, send):
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            caught.append(error)
            raise

    async with RuntimeApi() as api, running(application, api):
        api.invoke(load_event("health"), status=status, answer_after_chunks=3)
        await until(lambda: api.polls == 2, "the loop goes on")
    assert len(caught) == 1


async def test_alone_in_its_process_a_cut_off_response_ends_the_process():
    """A Runtime API whose response was cut off hands out nothing any more (measured on the RIE)."""

    async def application(scope, receive, send):
        await send(START)
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0)

    async with RuntimeApi() as api, running(application, api) as loop:
        api.invoke(load_event("health"), drop_after_chunks=2)
        assert await loop.ended is False
        assert api.polls == 1


async def test_with_others_in_the_process_a_cut_off_response_harms_none_of_them():
    release = asyncio.Event()

    async def application(scope, receive, send):
        await send(START)
        if scope["path"] == "/health":
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0)
        await release.wait()
        await send({"type": "http.response.body", "body": b"well"})

    async with RuntimeApi() as api, running(application, api, concurrency=2):
        other = api.invoke(load_event("stream_chat"))
        await until(other.begun.is_set)
        api.invoke(load_event("health"), drop_after_chunks=2)
        await until(lambda: api.polls == 3 and api.waiting == 1, "the slot polls again")
        release.set()
        await until(other.ended.is_set)
        assert other.body == b"well"


async def test_as_many_polls_wait_as_may_run_at_once_in_one_process():
    running_now, most, pids = 0, 0, set()
    everyone = asyncio.Event()

    async def application(scope, receive, send):
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        pids.add(os.getpid())
        if running_now == 16:
            everyone.set()
        await everyone.wait()
        await send(START)
        await send({"type": "http.response.body", "body": scope["aws.context"].aws_request_id.encode()})
        running_now -= 1

    async with RuntimeApi() as api, running(application, api, concurrency=16):
        await until(lambda: api.waiting == 16, "sixteen polls")
        handed = [api.invoke(load_event("health")) for _ in range(40)]
        await until(lambda: all(one.ended.is_set() for one in handed))
        assert [one.body.decode() for one in handed] == [one.request_id for one in handed], "no cross-talk"
        assert (most, api.most_waiting, len(pids)) == (16, 16, 1)


async def test_with_several_at_once_trace_ids_stay_apart_and_out_of_the_environment(monkeypatch):
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    seen, both = {}, asyncio.Barrier(2)

    async def application(scope, receive, send):
        await both.wait()
        seen[scope["aws.context"].aws_request_id] = (trace_id.get(), os.environ.get("_X_AMZN_TRACE_ID"))
        await send(START)

    async with RuntimeApi() as api, running(application, api, concurrency=2):
        handed = [api.invoke(load_event("health")) for _ in range(2)]
        await until(lambda: all(one.ended.is_set() for one in handed))
    assert seen == {one.request_id: (f"Root=1-{one.request_id[:8]}", None) for one in handed}


def soon(milliseconds=600):
    return int(time.time() * 1000) + milliseconds


async def test_at_the_deadline_an_application_that_sent_nothing_becomes_a_504_with_a_body():
    cancelled = []

    async def application(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with RuntimeApi() as api, running(application, api, concurrency=2, timeouts=QUICK):
        handed = api.invoke(load_event("stream_chat"), deadline_ms=soon())
        await until(handed.ended.is_set)
        assert cancelled == [True]
        assert handed.prelude["statusCode"] == 504
        document = json.loads(handed.body)
        assert (document["code"], document["requestId"]) == ("deadline_exceeded", handed.request_id)


async def test_at_the_deadline_a_response_under_way_ends_with_error_trailers():
    async def application(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        await asyncio.Event().wait()

    async with RuntimeApi() as api, running(application, api, concurrency=2, timeouts=QUICK):
        handed = api.invoke(load_event("stream_chat"), deadline_ms=soon())
        await until(handed.ended.is_set)
        assert handed.body == b"so far"
        assert handed.trailers["lambda-runtime-function-error-type"] == "Function.DeadlineExceeded"
        await until(api.invoke(load_event("stream_chat"), deadline_ms=soon()).ended.is_set, "the loop goes on")


async def test_a_cancelled_application_may_still_say_goodbye():
    async def application(scope, receive, send):
        await send(START)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await send({"type": "http.response.body", "body": b"goodbye"})
            raise

    async with RuntimeApi() as api, running(application, api, timeouts=Timeouts(deadline_margin=0.05, unwind=30)):
        handed = api.invoke(load_event("stream_chat"), deadline_ms=soon())
        await until(handed.ended.is_set)
        assert (handed.body, handed.trailers) == (b"goodbye", {})


async def test_an_application_that_ignores_its_cancellation_is_left_behind(capsys):
    release = asyncio.Event()

    async def application(scope, receive, send):
        while scope["path"] == "/health" and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        await hello(scope, receive, send)

    async with RuntimeApi() as api, running(application, api, timeouts=QUICK):
        stubborn = api.invoke(load_event("health"), deadline_ms=soon())
        await until(stubborn.ended.is_set)
        assert stubborn.prelude["statusCode"] == 504
        good = api.invoke(load_event("stream_chat"))
        await until(good.ended.is_set)
        assert good.body == b"hello"
        release.set()
    assert any("ignores its cancellation" in record["message"] for record in logged(capsys))


async def test_a_cancelled_application_has_its_grace_also_when_its_response_is_lost():
    """It stores what there is: the resources it needs must not be closed below it."""
    stored = []

    async def application(scope, receive, send):
        await send(START)
        try:
            await asyncio.Event().wait()
        finally:
            await receive()
            await receive()  # returns when the response has been ended, or found lost
            for _ in range(100):
                await asyncio.sleep(0)
            stored.append(True)

    timeouts = Timeouts(drain=0.05, unwind=0.05, grace=30)
    async with RuntimeApi() as api, running(application, api, timeouts=timeouts) as loop:
        handed = api.invoke(load_event("health"), drop_after_chunks=1)
        await until(handed.begun.is_set)
        loop.stop.set()
        await loop.ended
        assert stored == [True]


async def test_an_invocation_whose_deadline_has_passed_is_ended_at_once():
    async with RuntimeApi() as api, running(hello, api, timeouts=QUICK):
        handed = api.invoke(load_event("stream_chat"), deadline_ms=1)
        await until(handed.ended.is_set)
        assert handed.prelude["statusCode"] == 504


async def test_stopping_ends_idle_slots_at_once_and_lets_running_ones_finish():
    release = asyncio.Event()

    async def application(scope, receive, send):
        await release.wait()
        await hello(scope, receive, send)

    async with RuntimeApi() as api, running(application, api, concurrency=3, timeouts=Timeouts(drain=30)) as loop:
        handed = api.invoke(load_event("health"))
        await until(handed.taken.is_set)
        await until(lambda: api.waiting == 2)
        loop.stop.set()
        await until(lambda: api.waiting == 0, "polling has stopped")
        assert not loop.ended.done()
        release.set()
        assert await loop.ended is True
        assert handed.body == b"hello"
        assert api.polls == 3


async def test_stopping_ends_what_does_not_finish_within_the_drain_time():
    async def application(scope, receive, send):
        await send(START)
        await asyncio.Event().wait()

    async with RuntimeApi() as api, running(application, api, timeouts=QUICK) as loop:
        handed = api.invoke(load_event("health"))
        await until(handed.begun.is_set)
        loop.stop.set()
        assert await loop.ended is True
        await until(handed.ended.is_set)
        assert handed.trailers["lambda-runtime-function-error-type"] == "Runtime.ShuttingDown"


async def test_what_a_defect_of_ours_does_to_one_invocation_it_does_not_do_to_another(capsys):
    class Defective(InvocationHandler):
        async def serve(self, invocation, stopping):
            if invocation.event()["rawPath"] == "/health":
                raise RuntimeError("a defect")
            return await super().serve(invocation, stopping)

    async with RuntimeApi() as api:
        client, stop = Client("127.0.0.1", api.port, QUICK), asyncio.Event()
        ended = asyncio.create_task(WorkerPool(Defective(hello, {}, client), client, 2).run(stop))
        api.invoke(load_event("health"))
        good = [api.invoke(load_event("stream_chat")) for _ in range(4)]
        await until(lambda: all(one.ended.is_set() for one in good))
        stop.set()
        assert await ended is True
    first = logged(capsys)[0]
    assert first["errorType"]
    assert first["stackTrace"]
    assert "a defect" not in [first["message"], first.get("errorMessage")]


@pytest.mark.parametrize(
    "poison",
    [
        {"event": {"headers": {"host": "chat.example:" + "9" * 5000}}},
        {"event": {"rawPath": "/\ud800"}},
        {"event": {"body": "é", "isBase64Encoded": True}},
        {"event": {}, "extra_headers": {"Lambda-Runtime-Client-Context": "[" * 3000}},
    ],
    ids=["port", "path", "body", "client context"],
)
async def test_what_is_odd_about_one_invocation_never_ends_the_process(poison):
    async with RuntimeApi() as api, running(hello, api) as loop:
        odd = api.invoke(load_event("health") | poison["event"], extra_headers=poison.get("extra_headers", {}))
        good = api.invoke(load_event("health"))
        await until(lambda: good.ended.is_set() or loop.ended.done())
        assert good.body == b"hello"
        assert odd.ended.is_set()


async def test_five_hundred_invocations_leave_nothing_behind(monkeypatch):
    """Half of them fail in one way or another."""
    configure()
    # pytest's own handlers keep all records, and with them the errors
    monkeypatch.setattr(logger, "handlers", [one for one in logger.handlers if isinstance(one, StderrHandler)])

    async def application(scope, receive, send):
        number = int(scope["path"][1:])
        if number % 4 == 1:
            raise ValueError
        await hello(scope, receive, send)
        if number % 4 == 3:
            raise ValueError

    def alive():
        gc.collect()
        return len(asyncio.all_tasks()), len(list(Path("/dev/fd").iterdir())), len(gc.get_objects())

    async with RuntimeApi() as api, running(application, api, concurrency=2):

        async def run(count):
            for number in range(count):
                await api.invoke(load_event("health", path=f"/{number}")).ended.wait()
            await until(lambda: (api.connections, api.waiting) == (2, 2))
            return alive()

        await run(50)
        before = await run(50)
        after = await run(400)
        assert after[0] == before[0], "tasks"
        assert after[1] == before[1], "open files"
        assert after[2] - before[2] < 400, "less than one object an invocation"
