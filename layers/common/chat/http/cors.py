"""Pages of other origins: which may call, and where AWS answers for it.

Source: Fetch standard, "CORS protocol"; AWS Lambda developer guide, "Cross-origin resource sharing (CORS)" of Function
URLs, which then set these headers themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "Last-Event-ID",
    "X-Session-Id",
    "X-User-Id",
    "traceparent",
    "x-amz-content-sha256",
)
RESPONSE_HEADERS = ("ETag", "Retry-After", "x-vercel-ai-ui-message-stream")
PREFLIGHT_SECONDS = 600
"""How long a browser may remember a preflight's answer. Chromium keeps it for two hours at most."""
ANY = "*"
_FUNCTION_URL = re.compile(r"[a-z0-9]+\.lambda-url\.[a-z0-9-]+\.on\.aws")


class Cors:
    """Answers preflights and names the allowed origin on responses; a Function URL of AWS does both itself.

    An origin is exact (`https://chat.example.com`), or has any port (`http://localhost:*`), or is any (`*`): then
    without credentials.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str]) -> None:
        self._app = app
        is_any = ANY in allowed_origins
        self._cors = CORSMiddleware(
            app,
            allow_origins=[ANY] if is_any else [],
            allow_origin_regex=None if is_any else "|".join(map(_pattern, allowed_origins)),
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            allow_credentials=not is_any,
            expose_headers=RESPONSE_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if scope["type"] != "http" or _is_function_url(scope) else self._cors
        await app(scope, receive, send)


def _pattern(origin: str) -> str:
    if origin.endswith(":*"):
        return re.escape(origin.removesuffix(":*")) + r"(:[0-9]{1,5})?"
    return re.escape(origin)


def _is_function_url(scope: Scope) -> bool:
    context = (scope.get("aws.event") or {}).get("requestContext") or {}
    return bool(_FUNCTION_URL.fullmatch(str(context.get("domainName", ""))))
