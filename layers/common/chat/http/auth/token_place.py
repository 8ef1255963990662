"""Where a request carries its token: the header `Authorization`, another header, or a cookie.

Another header is for what stands behind something that takes `Authorization` for itself, as a signature by IAM does. A
cookie is for readers that can send no header, as a browser's EventSource.
"""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request

from chat.http.errors import Forbidden, Unauthenticated
from chat.http.request_fields import SESSION_ID, header

AUTHORIZATION = "Authorization"
_SAFE_METHODS = ("GET", "HEAD")


class TokenPlace(NamedTuple):
    """The header's name, and a cookie's where one may stand in for it."""

    header: str = AUTHORIZATION
    cookie: str | None = None

    def read(self, request: Request) -> str:
        """Return the token, which has been looked at by nobody yet.

        A cookie comes along with whatever a page of somebody else makes a browser send. So with it, a request that
        changes something must carry the session's header: no form can send that, and no script of another origin
        without a preflight, which only allowed origins pass.

        Raises:
            Unauthenticated: there is none.
            Forbidden: it is a cookie, and the request may be somebody else's.
        """
        value = header(request, self.header)
        if value is not None:
            return self._of_header(value)
        token = request.cookies.get(self.cookie) if self.cookie is not None else None
        if not token:
            raise Unauthenticated(f"Send a bearer token in the header {self.header}.")
        if request.method not in _SAFE_METHODS and SESSION_ID.read(request) is None:
            raise Forbidden(
                "With the token in a cookie, a request that changes something needs the header X-Session-Id."
            )
        return token

    def _of_header(self, value: str) -> str:
        """Return the token in a header's value.

        Source: RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
        """
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        if self.header == AUTHORIZATION or not value or " " in value or scheme.lower() == "bearer":
            raise Unauthenticated(f"Send a bearer token in the header {self.header}.")
        return value
