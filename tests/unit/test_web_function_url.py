"""What Mangum is given: whatever a client sends, the invocation goes on to the application."""

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from chat.http.rebuilt import Rebuilt
from chat.wiring import lambda_handler


@pytest.fixture(autouse=True)
def loop():
    """Mangum takes the thread's loop, and makes one where there is none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


async def echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"headers": dict(request.headers), "query": request.url.query, "body": body.decode("latin-1")})


def answer(headers: dict[str, str] | None = None, **more) -> dict:
    http = {"method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "x"}
    event = {"version": "2.0", "rawPath": "/", "rawQueryString": "", "requestContext": {"http": http}, **more}
    response = lambda_handler(Rebuilt(lambda: Starlette(routes=[Route("/", echo, methods=["POST"])])))(
        {**event, "headers": headers}, None
    )
    assert response["statusCode"] == 200
    return json.loads(response["body"])


def test_a_response_to_head_has_no_body():
    http = {"method": "HEAD", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "x"}
    event = {"version": "2.0", "rawPath": "/", "rawQueryString": "", "requestContext": {"http": http}, "headers": {}}
    response = lambda_handler(Rebuilt(lambda: Starlette(routes=[Route("/", echo)])))(event, None)
    assert (response["statusCode"], response["body"]) == (200, "")


@pytest.mark.parametrize("host", ["example.org", "example.org:8443", ""])
def test_what_can_be_read_arrives_as_it_came(host):
    headers = {"Host": host, "X-Forwarded-Port": "443", "X-User-Id": "u"}
    found = answer(headers, body='{"title":"한"}', rawQueryString="a=b", isBase64Encoded=False)
    assert found["headers"] == {"host": host, "x-forwarded-port": "443", "x-user-id": "u"}
    assert (found["query"], found["body"].encode("latin-1").decode()) == ("a=b", '{"title":"한"}')
    assert answer(body="e30=", isBase64Encoded=True)["body"] == "{}"


@pytest.mark.parametrize(
    "headers",
    [{"host": "a:b:c"}, {"host": "[::1]:80"}, {"host": "a:99999999999"}, {"x-forwarded-port": "abc"}],
    ids=lambda headers: next(iter(headers.values())),
)
def test_a_server_that_cannot_be_read_is_left_out(headers):
    assert answer({**headers, "x-user-id": "u"})["headers"] == {"x-user-id": "u"}


@pytest.mark.parametrize("body", ["\ud800", "abc"])
def test_a_body_that_cannot_be_read_is_no_utf8(body):
    assert answer(body=body, isBase64Encoded=body.isascii())["body"] == "\xff"


def test_half_a_surrogate_pair_is_replaced():
    found = answer({"x-user-id": "\ud800"}, rawQueryString="\ud800")
    assert (found["headers"]["x-user-id"], found["query"]) == ("?", "?")


def test_it_is_replaced_in_cookies_and_names_too():
    found = answer({"\ud800": "x"}, cookies=["a=\ud800", "b=한"])
    assert found["headers"]["?"] == "x"
    assert found["headers"]["cookie"].startswith("a=?; b=")


def test_a_header_without_value_is_left_out():
    assert answer({"x-empty": None, "x-user-id": "u"}, cookies=None)["headers"] == {"x-user-id": "u"}
