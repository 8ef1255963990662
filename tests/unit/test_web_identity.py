"""Who is calling: by headers alone, and by bearer token with the headers beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from chat.domain.errors import ChatError
from chat.http.auth.identity import (
    Caller,
    Canceller,
    TokenUser,
    identify_caller,
    identify_canceller,
    identify_user,
    token_verifier,
)
from chat.http.auth.token_place import TokenPlace
from chat.http.errors import Forbidden, InvalidRequest, Unauthenticated
from chat.http.problems import UnknownErrors, exception_handlers, problem_type
from chat.http.request_fields import read_json
from chat.settings import AuthSettings, Secret, SettingsError
from tests.kit.events import load_event
from tests.kit.issuer import AUDIENCE, ISSUER, claims
from tests.kit.web_request import Body, Reply, request_of, scope_of

SECRET = "0123456789abcdef0123456789abcdef"
JWT = AuthSettings("jwt", secret=Secret(SECRET), algorithms=("HS256",), issuer=ISSUER, audience=(AUDIENCE,))
ALL = [identify_user, identify_caller, identify_canceller]


def token(**changes):
    import jwt

    return jwt.encode(claims(**changes), SECRET, "HS256")


class Names:
    """A verifier for which the token is the user."""

    def __init__(self, header: str = "Authorization", cookie: str | None = None) -> None:
        self.place = TokenPlace(header, cookie)

    async def user(self, token: str) -> TokenUser:
        return TokenUser(token, token)


def request(token=None, user=None, session="s1"):
    given = {"Authorization": token and f"Bearer {token}", "X-User-Id": user, "X-Session-Id": session}
    return request_of([(name, value) for name, value in given.items() if value is not None])


async def test_in_header_mode_the_headers_say_who_is_calling():
    assert token_verifier(AuthSettings("header")) is None
    asked = request(user="alice")
    assert await identify_user(asked, None) == "alice"
    assert await identify_caller(asked, None) == Caller("alice", "s1")
    assert await identify_canceller(asked, None) == Canceller("alice", "s1")


async def test_in_header_mode_only_a_cancel_may_leave_out_the_user():
    assert await identify_canceller(request(), None) == Canceller(None, "s1")
    for identify in (identify_user, identify_caller):
        with pytest.raises(InvalidRequest, match="X-User-Id is missing"):
            await identify(request(), None)


@pytest.mark.parametrize("tokens", [None, Names()], ids=["header mode", "jwt mode"])
async def test_only_creating_a_chat_needs_no_session(tokens):
    asked = request(token="alice", user="alice", session=None)
    assert await identify_user(asked, tokens) == "alice"
    for identify in (identify_caller, identify_canceller):
        with pytest.raises(InvalidRequest, match="X-Session-Id is missing"):
            await identify(asked, tokens)


@pytest.mark.parametrize("tokens", [None, Names()], ids=["header mode", "jwt mode"])
@pytest.mark.parametrize("identify", ALL)
@pytest.mark.parametrize(
    "headers", [[("X-User-Id", "a b")], [("X-User-Id", "alice")] * 2, [("X-User-Id", "alice,alice")]]
)
async def test_a_malformed_or_repeated_user_is_refused_in_every_mode_and_route(tokens, identify, headers):
    asked = request_of([*headers, ("X-Session-Id", "s1"), ("Authorization", "Bearer alice")])
    with pytest.raises(InvalidRequest, match="X-User-Id"):
        await identify(asked, tokens)


@pytest.mark.parametrize("user", [None, "alice"])
async def test_with_a_token_the_user_may_be_left_out_or_agree(user):
    asked = request(token="alice", user=user)
    assert await identify_user(asked, Names()) == "alice"
    assert await identify_caller(asked, Names()) == Caller("alice", "s1")
    assert await identify_canceller(asked, Names()) == Canceller("alice", "s1")


@pytest.mark.parametrize("identify", ALL)
async def test_a_user_that_is_not_the_tokens_is_forbidden(identify):
    with pytest.raises(Forbidden):
        await identify(request(token="alice", user="bob"), Names())
    with pytest.raises(Forbidden):
        await identify(request(token="alice", user="Alice"), Names())


@pytest.mark.parametrize("identify", ALL)
@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic YTpi", "alice", "Bearer\talice"])
async def test_without_a_token_the_challenge_says_only_what_is_wanted(identify, value):
    headers = [("X-User-Id", "alice"), ("X-Session-Id", "s1")]
    headers += [("Authorization", value)] if value is not None else []
    with pytest.raises(Unauthenticated) as caught:
        await identify(request_of(headers), Names())
    assert caught.value.challenge == 'Bearer realm="chat"'


async def test_two_tokens_are_refused():
    with pytest.raises(InvalidRequest, match="Authorization was sent more than once"):
        await identify_user(request_of([("Authorization", "Bearer alice")] * 2), Names())


class TestOtherPlaces:
    """Behind what takes Authorization for itself, and for readers that can send no header."""

    @pytest.mark.parametrize("value", ["alice", "Bearer alice", "bearer  alice"])
    async def test_another_header_carries_it_with_or_without_the_scheme(self, value):
        signed = ("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20241123/eu-north-1/lambda/aws4_request")
        asked = request_of([("X-Chat-Token", value), signed])
        assert await identify_user(asked, Names("X-Chat-Token")) == "alice"

    @pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "alice bob"])
    async def test_what_is_no_token_is_refused_by_the_headers_name(self, value):
        with pytest.raises(Unauthenticated, match="in the header X-Chat-Token"):
            await identify_user(request_of([("X-Chat-Token", value)]), Names("X-Chat-Token"))

    async def test_authorization_is_no_longer_read_then(self):
        with pytest.raises(Unauthenticated):
            await identify_user(request_of([("Authorization", "Bearer alice")]), Names("X-Chat-Token"))

    async def test_a_cookie_is_enough_for_reading(self):
        asked = request_of([("Cookie", "theme=dark; chat=alice")], method="GET")
        assert await identify_user(asked, Names(cookie="chat")) == "alice"

    async def test_a_cookie_alone_changes_nothing(self):
        """A page of somebody else can make a browser post a form, cookies included, but no header of ours."""
        headers = [("Cookie", "chat=alice")]
        with pytest.raises(Forbidden, match="X-Session-Id"):
            await identify_user(request_of(headers, method="POST"), Names(cookie="chat"))
        ours = request_of([*headers, ("X-Session-Id", "s1")], method="POST")
        assert await identify_user(ours, Names(cookie="chat")) == "alice"

    async def test_a_header_goes_before_a_cookie(self):
        asked = request_of([("Cookie", "chat=alice"), ("Authorization", "Bearer bob")], method="POST")
        assert await identify_user(asked, Names(cookie="chat")) == "bob"

    async def test_no_cookie_is_read_unless_it_is_named(self):
        with pytest.raises(Unauthenticated):
            await identify_user(request_of([("Cookie", "chat=alice")], method="GET"), Names())


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_a_real_token_names_its_subject(scheme):
    verifier = token_verifier(JWT)
    assert await identify_user(request_of([("Authorization", scheme + token(sub="carol"))]), verifier) == "carol"


async def test_tokens_joined_by_commas_are_a_bad_token():
    with pytest.raises(Unauthenticated) as caught:
        await identify_user(request_of([("Authorization", f"Bearer {token()},Bearer {token()}")]), token_verifier(JWT))
    assert 'error="invalid_token"' in caught.value.challenge


@pytest.mark.parametrize(
    ("bearer", "status"),
    [(None, 401), ("Bearer x.y.z", 401), ("good", 200)],
    ids=["no token", "bad token", "good token"],
)
async def test_a_request_without_a_good_token_is_refused_before_its_body_is_read(bearer, status):
    verifier = token_verifier(JWT)

    async def endpoint(request):
        user = await identify_user(request, verifier)
        return JSONResponse({"user": user} | await read_json(request, 1000))

    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])],
        middleware=[Middleware(UnknownErrors)],
        exception_handlers=exception_handlers(),
    )
    body, reply = Body(b'{"a": "b"}'), Reply()
    authorization = f"Bearer {token()}" if bearer == "good" else bearer
    await app(scope_of([("Authorization", authorization)] if authorization else []), body, reply)

    assert reply.status == status
    assert body.reads == (1 if status == 200 else 0)
    if status == 401:
        assert json.loads(reply.body)["code"] == "unauthenticated"
        assert reply.headers["www-authenticate"].startswith('Bearer realm="chat"')


@pytest.mark.parametrize(
    ("secret", "algorithms", "why"),
    [
        ("short", ("HS256",), "at least 32 bytes for HS256"),
        (SECRET, ("HS256", "HS512"), "at least 64 bytes for HS512"),
        ("ssm:a-parameter-with-a-long-enough-name", ("HS256",), "names a place"),
        ("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", ("HS256",), "public key"),
    ],
)
def test_a_secret_that_cannot_be_used_stops_the_function_at_its_start_without_being_shown(secret, algorithms, why):
    auth = AuthSettings("jwt", secret=Secret(secret), algorithms=algorithms, issuer=ISSUER, audience=(AUDIENCE,))
    with pytest.raises(SettingsError, match=f"CHAT_JWT_SECRET.*{why}") as caught:
        token_verifier(auth)
    assert secret not in str(caught.value)


def test_a_url_that_cannot_be_used_stops_the_function_at_its_start():
    auth = AuthSettings("jwt", jwks_url="http://[::1", algorithms=("RS256",), issuer=ISSUER, audience=(AUDIENCE,))
    with pytest.raises(SettingsError, match="CHAT_JWT_JWKS_URL"):
        token_verifier(auth)


def test_header_mode_imports_neither_the_token_library_nor_cryptography_nor_an_http_client():
    code = """
import sys
import chat.http.problems, chat.http.request_fields, chat.http.auth.identity
from chat.settings import AuthSettings
assert chat.http.auth.identity.token_verifier(AuthSettings("header")) is None
print([name for name in ("jwt", "cryptography", "httpx") if name in sys.modules])
"""
    path = Path(__file__).parents[2] / "layers" / "common"
    ran = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(path)}, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_what_a_bad_token_raises_is_the_contracts_401():
    from chat.http.auth.tokens import InvalidToken

    error: ChatError = InvalidToken("The token has expired.")
    assert (problem_type(type(error)).status, error.code) == (401, "unauthenticated")


NOBODY = [
    {},
    {"requestContext": None},
    {"requestContext": {"accountId": "anonymous"}},
    {"requestContext": {"authorizer": None}},
    {"requestContext": {"authorizer": {"iam": None}}},
    {"requestContext": {"authorizer": {"iam": {}}}},
    {"requestContext": {"authorizer": {"jwt": {"claims": {"sub": "alice"}}}}},
]


@pytest.mark.parametrize("event", NOBODY)
@pytest.mark.parametrize("identify", [identify_user, identify_caller, identify_canceller])
async def test_on_lambda_nobody_is_believed_whom_iam_has_not_authenticated(identify, event):
    """Whatever the URL's setting: a changed parameter may open it while this version is still live."""
    request = request_of([("X-User-Id", "alice"), ("X-Session-Id", "phone")])
    request.scope["aws.event"] = event
    with pytest.raises(Unauthenticated):
        await identify(request, None)


async def test_on_lambda_a_caller_whom_iam_has_authenticated_may_say_for_whom_it_asks():
    request = request_of([("X-User-Id", "alice"), ("X-Session-Id", "phone")])
    request.scope["aws.event"] = load_event("iam_post")
    assert await identify_caller(request, None) == ("alice", "phone")
