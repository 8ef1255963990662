"""A Function URL event as an ASGI scope and a body. Pure.

Source: AWS Lambda developer guide, "Invoking Lambda function URLs", request payload format version 2.0;
ASGI 3.0, "HTTP & WebSocket ASGI message format", version 2.4 (from which on `send` may raise OSError).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from lambda_stream._errors import InvalidInvocation

_IN_PATHS = "/%:@!$&'()*+,;=~-._"
_PORT_DIGITS = 5


def http_request(event: object) -> tuple[dict[str, Any], bytes]:
    """Translate an event into an ASGI HTTP connection scope (without `state`) and the whole body.

    Raises:
        InvalidInvocation: it is no Function URL event of payload version 2.0.
    """
    if not isinstance(event, dict) or event.get("version") != "2.0":
        raise _unsupported(event)
    try:
        return _scope(event), _body(event)
    except (KeyError, TypeError, AttributeError, UnicodeError) as error:  # the last: half of a surrogate pair
        raise _unsupported(event) from error


def _scope(event: Mapping[str, Any]) -> dict[str, Any]:
    context = event["requestContext"]
    http = context["http"]
    raw_path = quote(event["rawPath"] or "/", safe=_IN_PATHS)
    headers = _headers(event)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": str(http.get("protocol") or "HTTP/1.1").rpartition("/")[2],
        "method": http["method"].upper(),
        "scheme": "https",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("ascii"),
        "query_string": (event.get("rawQueryString") or "").encode("utf-8", "replace"),
        "root_path": "",
        "headers": headers,
        "client": _client(http.get("sourceIp")),
        "server": _server(dict(headers).get(b"host", b"").decode("latin-1") or context.get("domainName") or ""),
        "extensions": {},
    }


def _headers(event: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    cookies = event.get("cookies")
    headers = [
        (name.lower().encode("latin-1", "replace"), _header_value(value))
        for name, value in (event.get("headers") or {}).items()
        # Function URLs deliver cookies twice, as a header and as a list
        if not (cookies and name.lower() == "cookie")
    ]
    if cookies:
        headers.append((b"cookie", _header_value("; ".join(cookies))))
    return headers


def _header_value(value: str) -> bytes:
    """Give back the bytes that the client sent, whichever way AWS had decoded them."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


def _client(source_ip: str | None) -> tuple[str, int] | None:
    """The port is not told, so it is 0."""
    return (source_ip, 0) if source_ip else None


def _server(authority: str) -> tuple[str, int] | None:
    host, colon, port = authority.rpartition(":")
    if colon and port.isdecimal() and len(port) <= _PORT_DIGITS and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port)
    return (authority.strip("[]"), 443) if authority else None


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        encoded: bytes = body.encode("utf-8", "surrogatepass")
        return encoded
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:  # binascii.Error is one; characters outside ASCII raise the plain kind
        raise InvalidInvocation("Runtime.InvalidEvent", "The event's body is not base64 as it says.") from error


def _unsupported(event: object) -> InvalidInvocation:
    """Say what came by its shape only: values may be anyone's data."""
    shape = (
        f"an object with the keys {sorted(map(str, event))[:20]}" if isinstance(event, dict) else type(event).__name__
    )
    return InvalidInvocation(
        "Runtime.UnsupportedEvent",
        f"Only Lambda Function URL events (payload format 2.0) are served; this one is {shape}.",
    )
