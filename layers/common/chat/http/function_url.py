"""Function URL events for Mangum, made safe to read.

Mangum fails, and with it the invocation, on a Host with two colons, a forwarded port that is no number, or half of a
surrogate pair. All of these are a client's to send; none of them is worth more than a client's error.
"""

from __future__ import annotations

import re
from typing import Any

from mangum.handlers.api_gateway import HTTPGateway
from mangum.types import LambdaConfig, LambdaContext, LambdaEvent, Response

_UNREADABLE = b"\xff"
"""A body that is no UTF-8, and so no JSON."""
_AUTHORITY = re.compile(r"[^:]*(:[0-9]{1,5})?")
_PORT = re.compile(r"[0-9]{1,5}")


class FunctionUrl(HTTPGateway):
    """A request in payload format 2.0. Headers that only name the server are left out when they cannot be read."""

    @classmethod
    def infer(cls, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> bool:
        return event.get("version") == "2.0"

    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        headers = {
            _valid(name).lower(): _valid(value)
            for name, value in (event.get("headers") or {}).items()
            if isinstance(value, str)
        }
        cookies = [_valid(cookie) for cookie in event.get("cookies") or () if isinstance(cookie, str)]
        for name, form in (("host", _AUTHORITY), ("x-forwarded-port", _PORT)):
            if name in headers and not form.fullmatch(headers[name]):
                del headers[name]
        query = _valid(event.get("rawQueryString") or "")
        super().__init__({**event, "headers": headers, "cookies": cookies, "rawQueryString": query}, context, config)

    def __call__(self, response: Response) -> dict[str, Any]:
        """Return the response as Lambda takes it; one to HEAD has no body."""
        if self.event["requestContext"]["http"]["method"] == "HEAD":
            response["body"] = b""
        return super().__call__(response)

    @property
    def body(self) -> bytes:
        try:
            return super().body
        except ValueError:  # half of a surrogate pair, or no base64
            return _UNREADABLE


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
