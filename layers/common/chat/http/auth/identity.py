"""Who is calling: the user and the session of a request, before its body is read or any store is touched.

`tokens` is None in header mode: the headers are trusted, because something in front has authenticated the caller. On
Lambda that is IAM, and nobody else is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from starlette.requests import Request

from chat.http.auth.token_place import TokenPlace
from chat.http.errors import Forbidden, InvalidRequest, Unauthenticated
from chat.http.request_fields import SESSION_ID, USER_ID, header
from chat.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


class Caller(NamedTuple):
    """A user on one of their devices."""

    user_id: str
    session_id: str


class Canceller(NamedTuple):
    """Like a caller, but in header mode the user may have been left out."""

    user_id: str | None
    session_id: str


class TokenUser(NamedTuple):
    """Whom a token names."""

    id: str
    subject: str
    """As the token has it, which may be no form of an id: then the id is a digest of it."""


class TokenVerifier(Protocol):
    """Knows where a request carries its token, and whom it names."""

    place: TokenPlace

    async def user(self, token: str) -> TokenUser:
        """Return the user.

        Raises:
            Unauthenticated: the token is not accepted.
            StorageUnavailable: no key to check it with can be fetched.
        """
        ...


def token_verifier(
    auth: AuthSettings, new_client: Callable[[], httpx.AsyncClient] | None = None
) -> TokenVerifier | None:
    """Return what checks bearer tokens, None in header mode.

    A secret must be the value itself, no reference to it. `new_client` makes the client for one fetch of the issuer's
    keys; it is closed afterwards, so nothing stays open between invocations.

    Raises:
        SettingsError: the secret or the URL cannot be used.
    """
    if auth.mode == "header":
        return None
    # Here and not above: PyJWT with cryptography takes longer to import than the rest of this package together.
    from chat.http.auth.tokens import open_tokens

    return open_tokens(auth, new_client)


async def identify_user(request: Request, tokens: TokenVerifier | None) -> str:
    """Return the user's id.

    Raises:
        Unauthenticated: a token is needed and is missing or not accepted.
        Forbidden: `X-User-Id` is not the user that the token names.
        InvalidRequest: `X-User-Id` is malformed, or missing in header mode.
    """
    user_id = await _user_if_known(request, tokens)
    if user_id is None:
        raise InvalidRequest(USER_ID.missing)
    return user_id


async def identify_caller(request: Request, tokens: TokenVerifier | None) -> Caller:
    """Return the user and the session; raises what `identify_user` raises, and InvalidRequest without a session."""
    return Caller(await identify_user(request, tokens), SESSION_ID.require(request))


async def identify_canceller(request: Request, tokens: TokenVerifier | None) -> Canceller:
    """Return the session, and the user unless header mode left it out; otherwise raises what `identify_caller` does."""
    return Canceller(await _user_if_known(request, tokens), SESSION_ID.require(request))


async def _user_if_known(request: Request, tokens: TokenVerifier | None) -> str | None:
    if tokens is None:
        _require_authenticated_caller(request)
        return USER_ID.read(request)
    user = await tokens.user(tokens.place.read(request))
    if not _is_sent_as(request, user) and USER_ID.read(request) is not None:
        raise Forbidden("The header X-User-Id does not match the token's subject; omit it.")
    return user.id


def _is_sent_as(request: Request, user: TokenUser) -> bool:
    """Tell whether `X-User-Id` names this user, by id or by the subject as the token has it, in UTF-8."""
    sent = header(request, USER_ID.name)
    if sent is None or sent in (user.id, user.subject):
        return sent is not None
    return sent.encode("latin-1", "replace").decode("utf-8", "replace") == user.subject


def _require_authenticated_caller(request: Request) -> None:
    """Refuse, on Lambda, a request that IAM did not authenticate: whatever else is set, an open URL believes nobody.

    Source: AWS Lambda developer guide, Function URL request payload: `requestContext.authorizer.iam` is there exactly
    with the auth type AWS_IAM.
    """
    event = request.scope.get("aws.event")
    if event is None:
        return  # behind another server, which has authenticated the caller
    context = event.get("requestContext") or {}
    if not (context.get("authorizer") or {}).get("iam"):
        raise Unauthenticated("This function trusts X-User-Id only from callers that IAM has authenticated.")
