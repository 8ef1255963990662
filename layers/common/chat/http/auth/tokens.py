"""Whom a bearer token names: checks its form, signature and claims. Knows nothing of requests.

Imported only where `CHAT_AUTH` is `jwt`: PyJWT and cryptography cost time at a cold start.

Source: RFC 7519 (JWT), RFC 7515 (signatures), RFC 8725 (what can go wrong with both).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from chat.domain.model import MAX_SUBJECT_CHARS, user_of
from chat.http.auth.identity import TokenUser
from chat.http.auth.token_place import TokenPlace
from chat.http.errors import Unauthenticated
from chat.settings import AuthSettings, Secret, SettingsError, is_reference

if TYPE_CHECKING:
    import httpx

MAX_TOKEN_CHARS = 8192
LEEWAY_SECONDS = 10
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_CLAIMS = ["exp", "iss"]
_AUDIENCE_CLAIMS = ("aud", "client_id", "azp")
_REASONS: list[tuple[type[jwt.PyJWTError], str]] = [
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidIssuerError, "The token is from another issuer."),
    (jwt.MissingRequiredClaimError, "The token must have the claims exp and iss."),
    (jwt.InvalidSignatureError, "The signature of the token is wrong."),
]


class InvalidToken(Unauthenticated):
    """A token was sent, and it is not accepted; the detail goes into the challenge too and must be plain ASCII.

    Source: RFC 6750, section 3.1.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.challenge = f'{Unauthenticated.challenge}, error="invalid_token", error_description="{detail}"'


class Keys(Protocol):
    """Where the keys for checking signatures come from."""

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key that a token with this header was signed with, None when there is none.

        Raises:
            StorageUnavailable: nothing is known of any key.
        """
        ...


class SharedSecret:
    """The one key of issuers who share a secret with us."""

    def __init__(self, secret: Secret, algorithms: tuple[str, ...]) -> None:
        value = secret.reveal()
        if is_reference(value):
            raise SettingsError("CHAT_JWT_SECRET names a place, and its value was not taken from there")
        encoded = base64.urlsafe_b64encode(value.encode()).decode()
        keys = {name: jwt.PyJWK({"kty": "oct", "k": encoded}, name) for name in algorithms}
        for name, key in keys.items():
            _check_secret(name, key)
        self._keys = keys

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key whatever the `kid` says."""
        return self._keys.get(algorithm)


def _check_secret(algorithm: str, key: jwt.PyJWK) -> None:
    """Refuse what is too short for the algorithm, and public keys, which everybody knows.

    Source: RFC 7518, section 3.2.
    """
    try:
        complaint = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key))
    except jwt.InvalidKeyError:
        raise SettingsError("CHAT_JWT_SECRET is a public key or a certificate, not a secret") from None
    if complaint:
        raise SettingsError(f"CHAT_JWT_SECRET must have at least {int(algorithm[2:]) // 8} bytes for {algorithm}")


class Tokens:
    """Checks bearer tokens against pinned algorithms, issuer and audience."""

    def __init__(self, auth: AuthSettings, keys: Keys) -> None:
        self.place = TokenPlace(auth.token_header, auth.token_cookie)
        self._auth = auth
        self._keys = keys

    async def user(self, token: str) -> TokenUser:
        """Return whom the token names.

        Raises:
            InvalidToken: it is not accepted, and why; about its claims only if its signature is right.
            StorageUnavailable: no key of the issuer is known.
        """
        head = self._read_head(token)
        algorithm = head["alg"]
        key = await self._keys.find(head.get("kid"), algorithm)
        if key is None:
            raise InvalidToken("The token is signed with a key that its issuer does not publish.")
        return self._read_subject(token, key, algorithm)

    def _read_head(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidToken("The token is too long.")
        if not _FORM.fullmatch(token):
            raise InvalidToken("The token is no signed JSON Web Token.")
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            raise InvalidToken("The token is no signed JSON Web Token.") from None
        if head.get("alg") not in self._auth.algorithms:
            raise InvalidToken("The token is signed with an algorithm that is not accepted.")
        if "crit" in head:
            raise InvalidToken("The token needs an extension that is not understood.")
        return head

    def _read_subject(self, token: str, key: jwt.PyJWK, algorithm: str) -> TokenUser:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                options={"require": _CLAIMS, "enforce_minimum_key_length": True, "verify_aud": False},
                issuer=self._auth.issuer,
                leeway=LEEWAY_SECONDS,
            )
        except jwt.PyJWTError as error:
            reasons = (reason for kind, reason in _REASONS if isinstance(error, kind))
            raise InvalidToken(next(reasons, "The token is malformed.")) from None
        except RecursionError:
            raise InvalidToken("The token is malformed.") from None
        self._check_audience(claims)
        return self._user_of(claims)

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        """Accept a token for one of our audiences; one that names none, by the client that it was given to.

        Source: Amazon API Gateway developer guide, JWT authorizers: `client_id` is validated only if `aud` is not
        present. Clerk's tokens have `azp` instead (OpenID Connect Core 1.0, section 2).
        """
        name = next((name for name in _AUDIENCE_CLAIMS if name in claims), None)
        if name is None:
            raise InvalidToken("The token must have the claim aud, client_id or azp.")
        value = claims[name]
        named = value if name == "aud" and isinstance(value, list) else [value]
        if not any(isinstance(one, str) and one in self._auth.audience for one in named):
            raise InvalidToken("The token is for another audience.")

    def _user_of(self, claims: Mapping[str, Any]) -> TokenUser:
        name = self._auth.user_claim
        subject = claims.get(name)
        if subject is None:
            raise InvalidToken(f"The token must have the claim {name}.")
        user_id = user_of(subject) if isinstance(subject, str) else None
        if user_id is None:
            raise InvalidToken(
                f"The claim {name} of the token must be a string of 1 to {MAX_SUBJECT_CHARS} characters."
            )
        return TokenUser(user_id, subject)


def open_tokens(auth: AuthSettings, new_client: Callable[[], httpx.AsyncClient] | None = None) -> Tokens:
    """Return the check that the settings ask for; opens nothing.

    Raises:
        SettingsError: the secret or the URL cannot be used.
    """
    if auth.secret is not None:
        return Tokens(auth, SharedSecret(auth.secret, auth.algorithms))
    # Here and not above: with a secret, no HTTP client is needed.
    from chat.http.auth.jwks import DiscoveredJwks, Jwks

    if auth.jwks_url is not None:
        return Tokens(auth, Jwks(auth.jwks_url, auth.algorithms, new_client))
    return Tokens(auth, DiscoveredJwks(auth.issuer or "", auth.algorithms, new_client))
