"""Which pages may call, through an application with routes of its own."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from chat.http.cors import Cors

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-session-id,content-type"}


def app(*origins: str) -> Starlette:
    routes = [Route("/", lambda _: PlainTextResponse("ok"), methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=[Middleware(Cors, allowed_origins=origins)])


async def ask(app, method: str, origin: str | None, **headers: str) -> httpx.Response:
    sent = {**headers, **({"Origin": origin} if origin else {})}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chat") as client:
        return await client.request(method, "/", headers=sent)


@pytest.mark.parametrize(
    ("allowed", "origin", "is_allowed"),
    [
        ("https://chat.example.com", "https://chat.example.com", True),
        ("https://chat.example.com", "https://chat.example.com.evil.com", False),
        ("https://chat.example.com", "https://chatxexample.com", False),
        ("https://chat.example.com", "http://chat.example.com", False),
        ("http://localhost:*", "http://localhost:5173", True),
        ("http://localhost:*", "http://localhost", True),
        ("http://localhost:*", "http://localhost:80.evil.com", False),
        ("http://localhost:*", "http://evil.com:5173", False),
    ],
)
async def test_an_origin_is_named_when_it_is_allowed_and_only_then(allowed, origin, is_allowed):
    for method, more in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        response = await ask(app(allowed), method, origin, **more)
        assert response.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
        assert response.status_code == (200 if is_allowed or method == "GET" else 400)


async def test_any_origin_is_allowed_without_credentials_only():
    response = await ask(app("*"), "GET", "https://a.example")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


async def test_a_request_without_an_origin_is_left_alone():
    response = await ask(app("https://a.example"), "GET", None)
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_what_aws_answers_for_a_function_url_is_not_sent_twice():
    inner = app("https://a.example")

    async def on_aws(scope, receive, send):
        context = {"domainName": "abc123.lambda-url.eu-west-1.on.aws"}
        await inner({**scope, "aws.event": {"requestContext": context}}, receive, send)

    response = await ask(on_aws, "GET", "https://a.example")
    assert "access-control-allow-origin" not in response.headers
