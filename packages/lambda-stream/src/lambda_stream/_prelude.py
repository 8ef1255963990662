"""How a streamed HTTP response begins: a JSON prelude, eight NULs, then the raw body. Pure.

Source: AWS Lambda developer guide, "Response streaming for Lambda functions", and the Node.js runtime's HTTP stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TypeAlias

from lambda_stream._errors import InvalidResponse

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
MAX_BYTES = 16 * 1024

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2

# RFC 9110, section 7.6.1; and `trailer`, because trailers of the application are not forwarded
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


def encode(status: int, headers: Headers) -> bytes:
    """Encode status and headers, the separator included.

    `set-cookie` becomes the list `cookies`; other repeats are joined by commas; hop-by-hop headers are left out.

    Raises:
        InvalidResponse: status or a header is not allowed, or the prelude would reach 16 KB.
    """
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise InvalidResponse(f"Not a final HTTP status: {status!r}")
    joined: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in _decoded(headers):
        if name == "set-cookie":
            cookies.append(value)
        else:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    document = {"statusCode": status, "headers": _end_to_end(joined)} | ({"cookies": cookies} if cookies else {})
    prelude = json.dumps(document, separators=(",", ":")).encode("ascii")
    if len(prelude) >= MAX_BYTES:
        raise InvalidResponse(f"Status and headers take {len(prelude)} bytes; Lambda allows less than {MAX_BYTES}")
    return prelude + SEPARATOR


def _decoded(headers: Headers) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        text = bytes(value).decode("latin-1").strip(" \t")
        if not _TOKEN.fullmatch(name) or any(character in text for character in "\r\n\0"):
            raise InvalidResponse(f"Not a header: {bytes(name)!r}")
        yield bytes(name).decode("latin-1").lower(), text


def _end_to_end(headers: dict[str, str]) -> dict[str, str]:
    named = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    return {name: value for name, value in headers.items() if name not in _HOP_BY_HOP | named}
