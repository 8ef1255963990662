"""What an ASGI application can rely on, and what becomes of one that breaks the rules."""

import asyncio
import json
import os
import time
from functools import partial

import pytest

from lambda_stream import trace_id
from lambda_stream._errors import InvalidResponse, ResponseClosed
from lambda_stream.testing import RuntimeApi
from tests.kit.events import load_event
from tests.kit.lambda_loop import QUICK, running
from tests.kit.waiting import until

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(application, event=None, *, timeouts=None, state=None, **script):
    """Run one invocation to its end and return it."""
    async with RuntimeApi() as api, running(application, api, timeouts=timeouts, state=state):
        handed = api.invoke(load_event("stream_chat") if event is None else event, **script)
        await until(handed.ended.is_set, "the invocation was answered")
        assert api.refusals == []
        return handed


def logged(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_each_send_is_a_chunk_of_its_own_and_the_prelude_comes_first():
    async def application(scope, receive, send):
        await send(START)
        for part in (b"one", b"two", "셋".encode()):
            await send(body(part, more=True))
        await send(body())

    handed = await answer(application)
    assert handed.prelude == {"statusCode": 200, "headers": {"content-type": "text/plain"}}
    assert handed.chunks[1:] == [b"one", b"two", "셋".encode()]
    assert handed.trailers == {}
    assert handed.head["lambda-runtime-function-response-mode"] == "streaming"
    assert handed.head["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert handed.head["transfer-encoding"] == "chunked"
    assert handed.head["connection"] == "close"


async def test_an_empty_body_in_the_middle_does_not_end_the_response():
    async def application(scope, receive, send):
        await send(START)
        for part in (b"", b"one", b"", b"two"):
            await send(body(part, more=True))
        await send(body())

    assert (await answer(application)).chunks[1:] == [b"one", b"two"]


async def test_what_is_written_at_once_is_a_chunk_in_its_place():
    taken = []

    async def application(scope, receive, send):
        write = scope["extensions"]["lambda_stream.write"]["write"]
        taken.append(write(b"before the start"))
        await send(START)
        taken.append(write(b"one"))
        await send(body(b"two", more=True))
        taken.append(write(b"three"))
        taken.append(write(b""))
        await send(body(b"four"))
        taken.append(write(b"after the end"))

    handed = await answer(application)
    assert handed.chunks[1:] == [b"one", b"two", b"three", b"four"]
    assert taken == [False, True, True, False, False]


async def test_nothing_is_written_at_once_where_a_response_has_no_body():
    taken = []

    async def application(scope, receive, send):
        await send(START)
        taken.append(scope["extensions"]["lambda_stream.write"]["write"](b"one"))
        await send(body(b"one"))

    event = load_event("stream_chat")
    event["requestContext"]["http"]["method"] = "HEAD"
    handed = await answer(application, event)
    assert (handed.chunks[1:], taken) == ([], [False])


async def test_nothing_is_written_at_once_after_the_response_was_ended_for_the_application():
    taken, over = [], asyncio.Event()

    async def application(scope, receive, send):
        await receive()
        await send(START)
        try:
            await asyncio.Event().wait()
        finally:
            taken.append(scope["extensions"]["lambda_stream.write"]["write"](b"its last words"))
            await receive()  # returns when the response has ended
            taken.append(scope["extensions"]["lambda_stream.write"]["write"](b"more"))
            over.set()

    handed = await answer(application, timeouts=QUICK, deadline_ms=int(time.time() * 1000) + 200)
    await over.wait()
    assert taken == [True, False]
    assert handed.chunks[1:] == [b"its last words"]
    assert handed.trailers["lambda-runtime-function-error-type"] == "Function.DeadlineExceeded"


async def test_chunks_arrive_while_the_application_is_still_at_work():
    steps: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def application(scope, receive, send):
        await send(START)
        while (part := await steps.get()) is not None:
            await send(body(part, more=True))

    async with RuntimeApi() as api, running(application, api):
        handed = api.invoke(load_event("stream_chat"))
        await until(handed.begun.is_set, "the prelude has arrived before any body was sent")
        for number in range(1, 6):
            steps.put_nowait(b"delta %d" % number)
            await until(partial(lambda n: len(handed.chunks) == n + 1, number), "the delta has arrived")
            assert handed.chunks[-1] == b"delta %d" % number
            assert not handed.ended.is_set()
        steps.put_nowait(None)
        await until(handed.ended.is_set)


async def test_the_scope_carries_event_context_and_state():
    seen = {}

    async def application(scope, receive, send):
        seen.update(scope)
        await send(START)

    event = load_event("stream_chat")
    started = time.time()
    handed = await answer(application, event, state={"pool": "shared"}, deadline_ms=int(started * 1000) + 30_000)
    assert seen["aws.event"] == event
    assert seen["state"] == {"pool": "shared"}
    context = seen["aws.context"]
    assert context.aws_request_id == handed.request_id
    assert context.deadline_ms == handed.deadline_ms
    assert 0 < context.get_remaining_time_in_millis() <= 30_000
    assert context.invoked_function_arn == "arn:aws:lambda:eu-north-1:123456789012:function:streamer"
    assert (context.function_name, context.memory_limit_in_mb) == ("streamer", "512")
    assert context.trace_id == f"Root=1-{handed.request_id[:8]}"
    assert (context.tenant_id, context.client_context, context.identity) == (None, None, None)


async def test_state_is_a_copy_for_each_request():
    states = []

    async def application(scope, receive, send):
        states.append(dict(scope["state"]))
        scope["state"]["mine"] = True
        await send(START)

    async with RuntimeApi() as api, running(application, api, state={"pool": 1}):
        for _ in range(2):
            await until(api.invoke(load_event("health")).ended.is_set)
    assert states == [{"pool": 1}, {"pool": 1}]


async def test_optional_headers_of_an_invocation_reach_the_context():
    contexts = []

    async def application(scope, receive, send):
        contexts.append(scope["aws.context"])
        await send(START)

    extra = {
        "Lambda-Runtime-Aws-Tenant-Id": "tenant-7",
        "Lambda-Runtime-Client-Context": '{"custom":{"a":1}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"x"}',
    }
    await answer(application, extra_headers=extra)
    assert contexts[0].tenant_id == "tenant-7"
    assert contexts[0].client_context == {"custom": {"a": 1}}
    assert contexts[0].identity == {"cognitoIdentityId": "x"}


async def test_the_trace_id_is_in_the_environment_and_in_the_task_s_context(monkeypatch):
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "stale")
    seen = []

    async def application(scope, receive, send):
        seen.append((os.environ.get("_X_AMZN_TRACE_ID"), trace_id.get()))
        await send(START)

    handed = await answer(application)
    await answer(application, extra_headers={"Lambda-Runtime-Trace-Id": ""})
    traced = f"Root=1-{handed.request_id[:8]}"
    assert seen == [(traced, traced), (None, None)]


@pytest.mark.parametrize("kind", ["response", "error"])
async def test_the_invocation_id_is_echoed_when_there_is_one(kind):
    async def application(scope, receive, send):
        await send(START)

    event = load_event("stream_chat" if kind == "response" else "other_sqs")
    handed = await answer(application, event, extra_headers={"Lambda-Runtime-Invocation-Id": "abc-1"})
    assert handed.head["lambda-runtime-invocation-id"] == "abc-1"
    assert "lambda-runtime-invocation-id" not in (await answer(application, event)).head


async def test_receive_gives_the_body_once_and_then_waits_for_the_end_of_the_response():
    order = []

    async def application(scope, receive, send):
        order.append(await receive())
        listening = asyncio.create_task(receive())
        await send(START)
        await send(body(b"x", more=True))
        order.append(listening.done())
        await send(body())
        order.append(await listening)

    event = load_event("stream_chat")
    await answer(application, event)
    assert order == [
        {"type": "http.request", "body": event["body"].encode(), "more_body": False},
        False,
        {"type": "http.disconnect"},
    ]


async def test_work_after_the_response_still_belongs_to_the_invocation():
    release, done = asyncio.Event(), []

    async def application(scope, receive, send):
        await send(START)
        await send(body(b"all"))
        await release.wait()
        done.append(True)

    async with RuntimeApi() as api, running(application, api):
        handed = api.invoke(load_event("health"))
        await until(handed.ended.is_set, "the client has the whole response")
        assert api.waiting == 0
        release.set()
        await until(lambda: api.waiting == 1, "the next poll")
        assert done == [True]


async def test_an_application_that_fails_before_it_starts_becomes_a_500_with_a_body_and_one_line_in_the_log(capsys):
    async def application(scope, receive, send):
        raise ZeroDivisionError("a secret")

    handed = await answer(application)
    assert handed.prelude == {"statusCode": 500, "headers": {"content-type": "application/problem+json"}}
    assert json.loads(handed.body) == {
        "type": "about:blank",
        "title": "Internal error",
        "status": 500,
        "detail": "The function failed.",
        "code": "internal_error",
        "requestId": handed.request_id,
    }
    (record,) = logged(capsys)
    assert (record["level"], record["requestId"]) == ("ERROR", handed.request_id)
    assert record["errorType"] == "ZeroDivisionError"
    assert "a secret" not in json.dumps(record["message"])
    assert set(record) == {"timestamp", "level", "message", "logger", "requestId", "errorType", "stackTrace"}
    assert any("in application" in line for line in record["stackTrace"])


async def test_an_application_that_fails_midway_ends_its_body_with_error_trailers():
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"half", more=True))
        raise ZeroDivisionError("a secret")

    handed = await answer(application)
    assert handed.body == b"half"
    assert handed.trailer_error == (
        "Function.ZeroDivisionError",
        {"errorType": "Function.ZeroDivisionError", "errorMessage": "The function failed.", "stackTrace": []},
    )
    assert handed.error is None, "never /error once a response has begun"


async def test_an_application_that_fails_after_its_response_changes_nothing_of_it(capsys):
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"whole"))
        raise ZeroDivisionError

    handed = await answer(application)
    assert (handed.body, handed.trailers, handed.responses) == (b"whole", {}, 1)
    assert logged(capsys)[0]["errorType"] == "ZeroDivisionError"


@pytest.mark.parametrize("sent", [[], [b""], [b"part"], [b"part", b"more"]])
async def test_a_response_that_the_application_left_open_is_ended(sent):
    async def application(scope, receive, send):
        await send(START)
        for part in sent:
            await send(body(part, more=True))

    handed = await answer(application)
    assert handed.body == b"".join(sent)
    assert handed.trailers == {}


async def test_an_application_that_returns_without_a_response_becomes_a_500():
    async def application(scope, receive, send):
        await receive()

    handed = await answer(application)
    assert handed.prelude["statusCode"] == 500
    assert json.loads(handed.body)["detail"] == "The function sent no response."


async def test_an_application_that_cancels_itself_becomes_a_500_and_the_loop_goes_on():
    async def application(scope, receive, send):
        if scope["path"] == "/health":
            raise asyncio.CancelledError
        await send(START)

    async with RuntimeApi() as api, running(application, api):
        first, second = api.invoke(load_event("health")), api.invoke(load_event("stream_chat"))
        await until(second.ended.is_set)
        assert first.prelude["statusCode"] == 500
        assert second.prelude["statusCode"] == 200


async def test_something_that_is_no_application_at_all_becomes_a_500():
    handed = await answer(lambda scope: None)
    assert handed.prelude["statusCode"] == 500


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_send_none(status):
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": status})
        await send(body(b"must not be seen"))

    handed = await answer(application)
    assert handed.prelude == {"statusCode": status, "headers": {}}
    assert handed.chunks[1:] == []


async def test_the_answer_to_head_has_headers_and_no_body():
    async def application(scope, receive, send):
        await send(START | {"headers": [(b"content-length", b"5")]})
        await send(body(b"hel", more=True))
        await send(body(b"lo"))

    handed = await answer(application, load_event("head"))
    assert handed.prelude["headers"] == {"content-length": "5"}
    assert handed.chunks[1:] == []


async def test_cookies_and_repeated_headers_arrive_as_lambda_wants_them():
    async def application(scope, receive, send):
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"vary", b"x"), (b"vary", b"y"), (b"te", b"x")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    handed = await answer(application)
    assert handed.prelude == {"statusCode": 200, "headers": {"vary": "x, y"}, "cookies": ["a=1", "b=2"]}


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], body(b"early")),
        ([START], START),
        ([START, body(b"x")], body(b"late")),
        ([START, body(b"x")], START),
        ([], {"type": "http.response.unknown"}),
        ([], {"type": "http.response.start", "status": 99}),
        ([], {"type": "http.response.start", "status": 200, "headers": [(b"a", b"x\r\ny: z")]}),
        ([], {"type": "http.response.start", "status": 200, "headers": [(b"a", b"x" * 20_000)]}),
        ([START], body("text")),
    ],
)
async def test_a_message_that_does_not_fit_raises_into_the_application_and_changes_nothing(before, wrong):
    caught = []

    async def application(scope, receive, send):
        for message in before:
            await send(message)
        try:
            await send(wrong)
        except InvalidResponse as error:
            caught.append(error)
        if not before:
            await send(START)
        if len(before) < 2:
            await send(body(b"x"))

    handed = await answer(application)
    assert len(caught) == 1
    assert (handed.prelude["statusCode"], handed.body, handed.trailers) == (200, b"x", {})


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_body_may_be_any_kind_of_bytes(kind):
    async def application(scope, receive, send):
        await send(START)
        await send(body(kind(b"abc")))

    assert (await answer(application)).body == b"abc"


@pytest.mark.parametrize(
    ("event", "error_type"),
    [
        (load_event("other_sqs"), "Runtime.UnsupportedEvent"),
        (b"{not json", "Runtime.UnmarshalError"),
        (b"[" * 100_000, "Runtime.UnmarshalError"),
        (b"\xff\xfe", "Runtime.UnmarshalError"),
        (b"", "Runtime.UnmarshalError"),
    ],
)
async def test_an_event_that_is_not_served_is_answered_by_an_error_report(event, error_type):
    called = []

    async def application(scope, receive, send):
        called.append(scope)

    handed = await answer(application, event)
    assert handed.error[0] == error_type
    assert handed.error[1]["errorType"] == error_type
    assert handed.error[1]["errorMessage"]
    assert handed.responses == 0, "never /response and /error both"
    assert called == []


@pytest.mark.parametrize("headers", [{"Lambda-Runtime-Deadline-Ms": "soon"}, {"Lambda-Runtime-Client-Context": "{"}])
async def test_malformed_invocation_headers_are_answered_by_an_error_report(headers):
    async def application(scope, receive, send):
        await send(START)

    handed = await answer(application, extra_headers=headers)
    assert handed.error[0] == "Runtime.InvalidInvocation"


async def test_a_real_framework_streams_and_hears_no_disconnect_before_its_end():
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def numbers():
        for number in range(3):
            yield f"data: {number}\n\n"

    async def stream(request):
        await request.json()
        return StreamingResponse(numbers(), media_type="text/event-stream")

    async def create(request):
        return JSONResponse({"ok": True, "title": (await request.json())["title"]}, status_code=201)

    routes = [
        Route("/api/chat/{chat}/stream", stream, methods=["POST"]),
        Route("/api/chat/create", create, methods=["POST"]),
    ]
    application = Starlette(routes=routes)
    handed = await answer(application, load_event("stream_chat"))
    assert handed.chunks[1:] == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    handed = await answer(application, load_event("create_chat"))
    assert handed.prelude["statusCode"] == 201
    assert json.loads(handed.body) == {"ok": True, "title": "Weekend"}
    handed = await answer(application, load_event("health"))
    assert (handed.prelude["statusCode"], handed.body) == (404, b"Not Found")


async def test_a_response_that_is_started_twice_at_once_is_started_once():
    problems: list[BaseException | None] = []

    async def application(scope, receive, send):
        problems.extend(await asyncio.gather(send(START), send(START), return_exceptions=True))
        await send({"type": "http.response.body", "body": b"whole"})

    handed = await answer(application)
    assert handed.body == b"whole"
    assert [type(problem) for problem in problems] == [type(None), InvalidResponse]


async def test_a_send_after_the_response_was_ended_for_the_application_is_an_os_error():
    caught = []

    async def application(scope, receive, send):
        await receive()
        await send(START)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert (await receive())["type"] == "http.disconnect"  # the response was ended meanwhile
            try:
                await send(body(b"too late"))
            except OSError as error:
                caught.append(error)
            raise

    handed = await answer(application, timeouts=QUICK, deadline_ms=int(time.time() * 1000) + 600)
    assert handed.trailers["lambda-runtime-function-error-type"] == "Function.DeadlineExceeded"
    assert [type(error) for error in caught] == [ResponseClosed]
