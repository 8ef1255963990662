"""What a Redis URL says: where, encrypted how, as whom. Pure.

Source: IANA's registrations of `redis` and `rediss`; `unix` and the options are as in redis-py.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from chat.settings import SettingsError

_PORT = 6379
_OPTIONS = {"db", "ssl_ca_certs", "ssl_cert_reqs"}


@dataclass(frozen=True, slots=True)
class Address:
    """One server."""

    host: str
    port: int
    path: str | None
    """Of a Unix socket, instead of host and port."""
    is_encrypted: bool
    ca_path: str | None
    is_verified: bool
    username: str
    password: str
    database: int

    @property
    def login(self) -> tuple[str, ...]:
        """The words of AUTH; none where nobody logs in."""
        if self.username:
            return (self.username, self.password)
        return (self.password,) if self.password else ()

    def tls(self) -> ssl.SSLContext | None:
        """Return how TLS verifies, None without TLS. Reads certificates from disk."""
        if not self.is_encrypted:
            return None
        context = ssl.create_default_context(cafile=self.ca_path)
        if not self.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def read_address(url: str) -> Address:
    """Take a URL apart. Options: `db`, `ssl_ca_certs` (a path), `ssl_cert_reqs` (`none` or `required`).

    Raises:
        SettingsError: it asks for something that is not known here; the message does not show it.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(options) - _OPTIONS):
        raise SettingsError(f"REDIS_URL: the option {unknown[0]!r} is not known")
    is_unix = parts.scheme == "unix"
    database = options.get("db") or ("0" if is_unix else parts.path.strip("/") or "0")
    if not database.isdecimal():
        raise SettingsError("REDIS_URL: the database is not a number")
    return Address(
        host=parts.hostname or "localhost",
        port=parts.port or _PORT,
        path=unquote(parts.path) if is_unix else None,
        is_encrypted=parts.scheme == "rediss",
        ca_path=options.get("ssl_ca_certs"),
        is_verified=options.get("ssl_cert_reqs", "required") != "none",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=int(database),
    )
