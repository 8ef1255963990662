"""Each front door with AWS's documented event: what the application sees, and how its answer is handed over."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from lambda_stream.testing import RuntimeApi
from tests.kit.lambda_loop import QUICK, running
from tests.kit.waiting import until

EVENTS = Path(__file__).with_name("events")
STREAMED = "streamed"
SEEN = ("method", "path", "root_path", "query_string", "client", "server", "scheme")


def load(name, **changes):
    return json.loads((EVENTS / f"{name}.json").read_text()) | changes


class Application:
    """Answers with two pieces, and keeps the scope."""

    def __init__(self, pieces=(b"one ", b"two"), headers=()):
        self.pieces = pieces
        self.headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), *headers]

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 201, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def ask(application, event, handler=None, **script):
    async with RuntimeApi() as api, running(application, api, timeouts=QUICK, events=handler):
        invocation = api.invoke(event, **script)
        await until(invocation.ended.is_set)
        assert api.refusals == []
        return invocation


IN_ONE_PIECE = {"statusCode": 201, "body": "one two", "isBase64Encoded": False}
PLAIN = {"content-type": "text/plain"}
ROWS = [
    (
        "function_url",
        ("POST", "/my/path", "", b"parameter1=value1&parameter1=value2&parameter2=value", ("123.123.123.123", 0)),
        STREAMED,
    ),
    (
        "rest_api",
        ("GET", "/prod/my/path", "/prod", b"parameter1=value1&parameter1=value2&parameter2=a+%26+b", ("192.0.2.1", 0)),
        STREAMED,
    ),
    (
        "http_api_2",
        ("POST", "/my/path", "", b"parameter1=value1&parameter1=value2&parameter2=value", ("192.0.2.1", 0)),
        IN_ONE_PIECE | {"headers": PLAIN, "cookies": ["a=1", "b=2"]},
    ),
    (
        "http_api_1",
        ("GET", "/my/path", "", b"parameter1=value1&parameter1=value2&parameter2=value", ("192.0.2.1", 0)),
        IN_ONE_PIECE | {"headers": PLAIN, "multiValueHeaders": {"set-cookie": ["a=1", "b=2"]}},
    ),
    (
        "load_balancer",
        ("GET", "/", "", b"myKey=my%20Value", ("72.21.198.66", 0)),
        IN_ONE_PIECE | {"statusDescription": "201 Created", "headers": PLAIN | {"set-cookie": "b=2"}},
    ),
    (
        "load_balancer_lists",
        ("GET", "/", "", b"myKey=val1&myKey=val2", ("72.21.198.66", 0)),
        IN_ONE_PIECE
        | {
            "statusDescription": "201 Created",
            "multiValueHeaders": {"content-type": ["text/plain"], "set-cookie": ["a=1", "b=2"]},
        },
    ),
]


@pytest.mark.parametrize(("name", "seen", "answer"), ROWS, ids=[row[0] for row in ROWS])
async def test_a_documented_event_reaches_the_application_and_is_answered_as_its_front_door_wants(name, seen, answer):
    event, application = load(name), Application()
    invocation = await ask(application, event)
    scope = application.scope
    assert tuple(scope[member] for member in SEEN[:5]) == seen
    assert application.body == event["body"].encode()
    assert scope["aws.event"] == event
    if answer == STREAMED:
        assert invocation.head["lambda-runtime-function-response-mode"] == "streaming"
        assert invocation.chunks[1:] == [b"one ", b"two"]
        assert invocation.prelude["cookies"] == ["a=1", "b=2"]
    else:
        assert "lambda-runtime-function-response-mode" not in invocation.head
        assert invocation.head["content-type"] == "application/json"
        assert json.loads(b"".join(invocation.chunks)) == answer


async def test_headers_of_several_values_reach_the_application_one_by_one():
    application = Application()
    await ask(application, load("rest_api"))
    assert [value for name, value in application.scope["headers"] if name == b"header2"] == [b"value1", b"value2"]
    await ask(application, load("load_balancer_lists"))
    assert [v for name, v in application.scope["headers"] if name == b"cookie"] == [b"name1=value1", b"name2=value2"]
    assert application.scope["server"] == ("lambda-846800462-us-east-2.elb.amazonaws.com", 443)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"domainName": "api.example.com", "domainPrefix": "api"}, "one piece"),  # a domain of one's own
        ({"domainName": "id.execute-api.eu-west-1.amazonaws.com"}, "one piece"),
        ({"domainName": "x", "domainPrefix": None, "routeKey": "POST /my/path"}, "one piece"),
        ({"apiId": "u", "domainPrefix": "u", "domainName": "u.lambda-url.eu-west-1.on.aws"}, STREAMED),
        ({"apiId": "localhost:8000", "domainPrefix": "localhost:8000", "domainName": "localhost:8000"}, STREAMED),
    ],
)
async def test_an_http_api_is_told_from_a_function_url(changes, answer):
    event = load("http_api_2")
    event["requestContext"] |= changes
    invocation = await ask(Application(), event)
    assert ("lambda-runtime-function-response-mode" in invocation.head) == (answer == STREAMED)


async def test_a_stage_of_an_http_api_is_the_root_path():
    event, application = load("http_api_2", rawPath="/dev/my/path"), Application()
    event["requestContext"]["stage"] = "dev"
    await ask(application, event)
    assert (application.scope["root_path"], application.scope["path"]) == ("/dev", "/dev/my/path")


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [((b"\xff\x00",), ()), ((b"text",), ((b"content-encoding", b"gzip"),)), ((b"\xed", b"\x95"), ())],
)
async def test_a_body_that_is_no_text_goes_as_base64(pieces, headers):
    invocation = await ask(Application(pieces, headers), load("http_api_2"))
    document = json.loads(invocation.chunks[0])
    assert document["isBase64Encoded"] is True
    assert base64.b64decode(document["body"]) == b"".join(pieces)


async def test_an_application_that_fails_before_its_answer_is_a_problem_document_in_one_piece():
    async def application(scope, receive, send):
        raise ZeroDivisionError("a secret")

    document = json.loads((await ask(application, load("load_balancer"))).chunks[0])
    assert document["statusCode"] == 500
    assert json.loads(document["body"])["code"] == "internal_error" and "a secret" not in document["body"]


async def test_an_application_that_fails_midway_is_an_error_because_nothing_was_sent_yet():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    invocation = await ask(application, load("http_api_2"))
    assert (invocation.error.error_type, invocation.responses) == ("Function.ZeroDivisionError", 0)


async def test_one_that_runs_out_of_time_is_told_so_in_one_piece():
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    document = json.loads((await ask(application, load("http_api_1"), deadline_ms=0)).chunks[0])
    assert (document["statusCode"], json.loads(document["body"])["code"]) == (504, "deadline_exceeded")


OTHERS = ["queue", "scheduled"]


@pytest.mark.parametrize("name", OTHERS)
async def test_without_a_plain_handler_any_other_event_is_an_error_without_its_data(name):
    invocation = await ask(Application(), load(name))
    assert invocation.error.error_type == "Runtime.UnsupportedEvent"
    assert "123456789012" not in invocation.error.message


def plain(event, context):
    return {"keys": sorted(event), "id": context.aws_request_id}


async def plain_coroutine(event, context):
    return plain(event, context)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("handler", [plain, plain_coroutine])
async def test_a_plain_handler_answers_any_other_event(handler, name):
    event = load(name)
    invocation = await ask(Application(), event, handler)
    assert json.loads(invocation.chunks[0]) == {"keys": sorted(event), "id": invocation.request_id}
    assert invocation.head["content-type"] == "application/json"


async def test_http_requests_never_reach_the_plain_handler():
    invocation = await ask(Application(), load("rest_api"), plain)
    assert invocation.prelude["statusCode"] == 201


@pytest.mark.parametrize("result", [KeyError("a secret"), {1, 2}])
async def test_a_plain_handler_that_fails_is_an_error_of_its_kind(result):
    def handler(event, context):
        if isinstance(result, Exception):
            raise result
        return result

    invocation = await ask(Application(), {}, handler)
    expected = "Function.KeyError" if isinstance(result, Exception) else "Function.TypeError"
    assert invocation.error.error_type == expected
    assert "a secret" not in str(invocation.error)


async def test_a_plain_handler_that_runs_out_of_time_is_told_of_by_its_own_word():
    async def handler(event, context):
        await asyncio.Event().wait()

    invocation = await ask(Application(), {}, handler, deadline_ms=0)
    assert invocation.error.error_type == "Function.DeadlineExceeded"


def test_the_readme_has_a_row_for_each_of_them():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for words in ("Function URL", "REST API", "HTTP API", "Load Balancer", "anything else"):
        assert f"| {words}" in readme
