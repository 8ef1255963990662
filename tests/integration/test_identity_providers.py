"""Tokens as the identity providers that people have issue them, with the settings of docs/operations.md for each.

Source of the shapes: the page of each provider that docs/operations.md links.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from chat.domain.errors import StorageUnavailable
from chat.domain.model import new_id
from chat.http.auth.identity import identify_user, token_verifier
from chat.http.auth.tokens import InvalidToken
from chat.http.errors import Forbidden
from chat.settings import Settings
from tests.kit.issuer import Issuer, public_jwk, token
from tests.kit.web_request import request_of

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
BASE = {"REDIS_URL": "redis://r", "MYSQL_URL": "sqlite:///x", "CHAT_AUTH": "jwt"}
TENANT = "8f1e8f6e-1111-4222-8333-944455556666"
USER = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
PROVIDERS: dict[str, tuple[dict, dict, str]] = {
    # what is in a token, what is changed to make it a bad one, and whom it names
    "Amazon Cognito, access token": (
        {
            "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
            **{"sub": USER, "client_id": "1example23456789", "aud": None, "token_use": "access", "scope": "openid"},
            **{"username": "kim", "jti": new_id(), "origin_jti": new_id(), "cognito:groups": ["a"], "version": 2},
        },
        {"client_id": "of another application"},
        USER,
    ),
    "Amazon Cognito, ID token": (
        {
            "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
            **{"sub": USER, "aud": "1example23456789", "token_use": "id", "email": "kim@example.com"},
        },
        {"aud": "of another application", "client_id": "1example23456789"},
        USER,
    ),
    "Auth0": (
        {
            "iss": "https://example.eu.auth0.com/",
            **{"sub": "google-oauth2|103547991597142817347", "azp": "client", "scope": "openid profile"},
            "aud": ["https://chat.example.com", "https://example.eu.auth0.com/userinfo"],
        },
        {"aud": ["https://example.eu.auth0.com/userinfo"]},
        "google-oauth2|103547991597142817347",
    ),
    "Microsoft Entra ID": (
        {
            "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
            **{"aud": "11111111-2222-4333-8444-555555555555", "azp": "app", "oid": USER, "tid": TENANT, "ver": "2.0"},
            **{"sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "scp": "access_as_user"},
        },
        {"oid": None},
        USER,
    ),
    "Keycloak": (
        {
            "iss": "https://id.example.com/realms/shop",
            **{"aud": ["chat", "account"], "azp": "web", "sub": USER, "typ": "Bearer", "sid": new_id()},
            **{"realm_access": {"roles": ["offline_access"]}, "preferred_username": "kim"},
        },
        {"aud": "account", "azp": "chat"},
        USER,
    ),
    "Okta": (
        {
            "iss": "https://example.okta.com/oauth2/default",
            **{"aud": "api://default", "cid": "0oa1abc", "uid": "00u1abc", "sub": "kim@example.com", "scp": ["openid"]},
        },
        {"iss": "https://example.okta.com"},
        "kim@example.com",
    ),
    "Google": (
        {
            "iss": "https://accounts.google.com",
            **{"aud": "1234-abc.apps.googleusercontent.com", "azp": "1234-abc.apps.googleusercontent.com"},
            **{"sub": "110169484474386276334", "email": "kim@example.com", "email_verified": True},
        },
        {"aud": "5678-def.apps.googleusercontent.com"},
        "110169484474386276334",
    ),
    "Firebase": (
        {
            "iss": "https://securetoken.google.com/example-project",
            **{
                "aud": "example-project",
                "sub": "7dK3mPq9XhZ2vB5nR8sT1wY4uA6c",
                "user_id": "7dK3mPq9XhZ2vB5nR8sT1wY4uA6c",
            },
            "firebase": {"identities": {}, "sign_in_provider": "password"},
        },
        {"exp": 1_700_000_000},
        "7dK3mPq9XhZ2vB5nR8sT1wY4uA6c",
    ),
    "Supabase": (
        {
            "iss": "https://abcdefghijklmnop.supabase.co/auth/v1",
            **{"aud": "authenticated", "sub": USER, "role": "authenticated", "session_id": new_id(), "aal": "aal1"},
            "is_anonymous": False,
        },
        {"aud": "anon"},
        USER,
    ),
    "Clerk": (
        {
            "iss": "https://clerk.example.com",
            **{"aud": None, "azp": "https://chat.example.com", "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC"},
            **{"sid": "sess_2NNEqL", "fva": [0, -1], "v": 2},
        },
        {"azp": "https://evil.example"},
        "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
    ),
}


class Rerouted(httpx.AsyncHTTPTransport):
    """Reaches one server of ours at whatever address is asked for."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = httpx.URL(url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host=self.url.host, port=self.url.port)
        return await super().handle_async_request(request)


def settings_of(provider: str) -> dict[str, str]:
    """Return the settings that the page gives for a provider."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {provider.partition(',')[0]} |")]
    return dict(re.findall(r"`(CHAT_JWT_[A-Z_]+)=([^`]+)`", row))


class Provider:
    """A provider with one key, found as its settings say, and what checks its tokens."""

    def __init__(self, issuer: Issuer, settings: dict[str, str]) -> None:
        self.issuer = issuer
        self.algorithm = "ES256" if "supabase" in settings["CHAT_JWT_ISSUER"] else "RS256"
        issuer.keys = [public_jwk("k1", self.algorithm)]
        auth = Settings.read({**BASE, **settings}).auth
        jwks_uri = f"{settings['CHAT_JWT_ISSUER'].rstrip('/')}/keys"
        issuer.configuration = {"issuer": settings["CHAT_JWT_ISSUER"], "jwks_uri": jwks_uri}
        self.verifier = token_verifier(auth, lambda: httpx.AsyncClient(transport=Rerouted(issuer.url)))

    async def user(self, claims: dict, sent_as: str | None = None) -> str:
        """Send a token of these claims, and perhaps X-User-Id."""
        bearer = f"Bearer {token('k1', self.algorithm, **claims)}"
        headers = [("Authorization", bearer), *([("X-User-Id", sent_as)] if sent_as is not None else [])]
        return await identify_user(request_of(headers), self.verifier)


@pytest.fixture
async def issuer():
    async with Issuer() as issuer:
        yield issuer


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_providers_token_names_its_user_and_with_one_thing_wrong_nobody(issuer, name):
    claims, change, user = PROVIDERS[name]
    provider = Provider(issuer, settings_of(name))
    assert await provider.user(claims) == user
    assert await provider.user(claims, sent_as=user) == user
    with pytest.raises(Forbidden):
        await provider.user(claims, sent_as="somebody.else")
    with pytest.raises(InvalidToken):
        await provider.user({**claims, **change})


async def test_a_subject_that_is_no_id_may_be_sent_as_it_stands(issuer):
    claims, _, _ = PROVIDERS["Auth0"]
    provider = Provider(issuer, settings_of("Auth0"))
    for subject in ("samlp|corp|kim@example.com, 7", "https://idp.example/users/7"):
        user = await provider.user({**claims, "sub": subject})
        assert user.startswith("sha256:")
        assert await provider.user({**claims, "sub": subject}, sent_as=subject) == user
        assert await provider.user({**claims, "sub": subject}, sent_as=user) == user
    korean = {**claims, "sub": "김철수"}
    assert await provider.user(korean, sent_as="김철수".encode().decode("latin-1")) == await provider.user(korean)


async def test_keys_are_found_by_discovery_and_by_nothing_that_another_issuer_says(issuer):
    claims, _, user = PROVIDERS["Okta"]
    settings = settings_of("Okta")
    provider = Provider(issuer, settings)
    assert await provider.user(claims) == user
    assert issuer.asked == ["/oauth2/default/.well-known/openid-configuration", "/oauth2/default/keys"]
    for change in (
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://plain.example/keys"},
        {"jwks_uri": "file:///keys"},
        {"jwks_uri": 7},
        {"jwks_uri": None},
    ):
        provider = Provider(issuer, settings)
        issuer.configuration |= change
        with pytest.raises(StorageUnavailable):
            await provider.user(claims)
    provider = Provider(issuer, settings)
    issuer.body = json.dumps([]).encode()
    with pytest.raises(StorageUnavailable):
        await provider.user(claims)
