"""An OpenID provider whose sign-in needs no password, with tokens of Cognito's shape: a real server on this machine."""

from __future__ import annotations

import base64
import hashlib
import secrets
from contextlib import AsyncExitStack
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from local.server import listen, port_of, serving
from tests.kit.issuer import public_jwk, token

CLIENT_ID = "1example23456789"


class OpenIdProvider:
    """Use as an async context manager; `refuses` makes it send people back with an error."""

    def __init__(self) -> None:
        self.refuses = ""
        self.codes: dict[str, dict[str, str]] = {}
        self.redeemed = 0
        self._open = AsyncExitStack()

    async def __aenter__(self) -> OpenIdProvider:
        listener = listen()
        self.url = f"http://127.0.0.1:{port_of(listener)}"
        routes = [
            Route("/.well-known/openid-configuration", self._configuration),
            Route("/jwks", self._jwks),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        app = Starlette(routes=routes, middleware=[Middleware(CORSMiddleware, allow_origins=["*"])])
        await self._open.enter_async_context(serving(app, [listener], 5, 1))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def _configuration(self, _: Request) -> Response:
        endpoints = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in PATHS.items()}
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **endpoints})

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse({"keys": [public_jwk("k1")]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code" and asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = asked
        answer = {"error": "access_denied", "error_description": self.refuses} if self.refuses else {"code": code}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({**answer, 'state': asked['state']})}")

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        self.redeemed += 1
        claims = {"iss": self.url, "aud": None, "client_id": CLIENT_ID, "token_use": "access", "sub": "cognito-user"}
        return JSONResponse({"access_token": token(**claims), "token_type": "Bearer", "expires_in": 300})


PATHS = {"authorization": "authorize", "token": "token"}
