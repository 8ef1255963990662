"""An issuer of tokens: keys of its own, and a real HTTP server that publishes them, well or badly."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example/"
AUDIENCE = "chat"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(name: str, kind: str = "RS256") -> PrivateKey:
    """Return the same key for the same arguments; making RSA keys is slow."""
    if kind == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ES384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


def public_jwk(name: str, kind: str = "RS256", **members: Any) -> dict[str, Any]:
    """Return the public half as the issuer publishes it; a member that is None is left out."""
    algorithm = jwt.get_algorithm_by_name(kind)
    data = algorithm.to_jwk(private_key(name, kind).public_key(), as_dict=True)
    data |= {"kid": name, "use": "sig", "alg": kind} | members
    return {key: value for key, value in data.items() if value is not None}


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with these changes; a claim that is None is left out."""
    now = int(time.time())
    good = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "iat": now}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(name: str = "k1", kind: str = "RS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token signed with that key; `changes` are to its claims, a header that is None is left out."""
    head = {"kid": name} | (headers or {})
    head = {key: value for key, value in head.items() if value is not None}
    return jwt.encode(claims(**changes), private_key(name, kind), kind, headers=head)


class Issuer:
    """Publishes `keys` at `url`. Set `status`, `body` or `gate` to make it misbehave; `stop` switches it off."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.fetches = 0
        self.status = "200 OK"
        self.headers: list[str] = []
        self.body: bytes | None = None
        self.configuration: dict[str, Any] | None = None
        """What OpenID discovery finds."""
        self.asked: list[str] = []
        """The paths asked for."""
        self.gate = asyncio.Event()
        """Answers wait until it is set."""
        self.gate.set()
        self._port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/keys.json"

    async def start(self) -> None:
        """Listen, at the port of the last time if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Issuer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.fetches += 1
            self.asked.append(head.split()[1].decode())
            document = {"keys": self.keys}
            if self.asked[-1].endswith("/.well-known/openid-configuration"):
                document = self.configuration or {}
            body = json.dumps(document).encode() if self.body is None else self.body
            lines = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(body)}", "Connection: close", *self.headers]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            await self.gate.wait()
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side went away, as it may
        finally:
            writer.close()
