"""Where the page signs in: what the issuer's OpenID configuration says, read once."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

SECONDS = 5.0


class NoSignIn(Exception):
    """The issuer's configuration cannot be read; the message says why."""


async def discover(issuer: str, client_id: str, scope: str) -> Mapping[str, str]:
    """Return what the page needs of an issuer to sign somebody in.

    Raises:
        NoSignIn: the issuer does not say.

    Source: OpenID Connect Discovery 1.0, section 4.
    """
    try:
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            response = await client.get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            found = response.raise_for_status().json()
        endpoints = {name: str(found[f"{name}_endpoint"]) for name in ("authorization", "token")}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise NoSignIn(f"the OpenID configuration of {issuer} cannot be read ({type(error).__name__})") from None
    return {
        "authorizationEndpoint": endpoints["authorization"],
        "tokenEndpoint": endpoints["token"],
        "clientId": client_id,
        "scope": scope,
    }
