"""Events of AWS's HTTP front doors as an ASGI scope, a body, and how the front door takes the answer. Pure.

    Function URL (payload 2.0)          streamed
    API Gateway, REST API (v1 proxy)    streamed; its integration must say `ResponseTransferMode: STREAM`
    API Gateway, HTTP API (1.0, 2.0)    in one piece: it cannot stream
    Application Load Balancer           in one piece: it cannot stream
    anything else                       is no HTTP request

Source: AWS Lambda developer guide, "Invoking Lambda function URLs", "Process Application Load Balancer requests with
Lambda"; API Gateway developer guide, "Lambda proxy integrations", "Working with AWS Lambda proxy integrations for HTTP
APIs"; ASGI 3.0, "HTTP & WebSocket ASGI message format", version 2.4 (from which on `send` may raise OSError).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from lambda_stream._errors import InvalidInvocation

_IN_PATHS = "/%:@!$&'()*+,;=~-._"
_PORT_DIGITS = 5


class Answer(Enum):
    """How a front door takes its answer."""

    STREAMED = auto()
    HTTP_API_2 = auto()
    """One piece, as HTTP APIs take it: headers as strings, cookies apart."""
    HTTP_API_1 = auto()
    """One piece, with headers of several values apart."""
    LOAD_BALANCER = auto()
    """One piece; of headers with several values the last one counts."""
    LOAD_BALANCER_LISTS = auto()
    """One piece, where the target group has `lambda.multi_value_headers.enabled`."""


class HttpRequest(NamedTuple):
    """An ASGI HTTP connection scope (without `state`), the whole body, and how the answer is taken."""

    scope: dict[str, Any]
    body: bytes
    answer: Answer


def http_request(event: object) -> HttpRequest | None:
    """Translate an event; None when it is no HTTP request.

    Raises:
        InvalidInvocation: it looks like one and is malformed.
    """
    if not isinstance(event, dict) or not isinstance(event.get("requestContext"), dict):
        return None
    try:
        if event.get("version") == "2.0" and "http" in event["requestContext"]:
            return _version_2(event)
        if "httpMethod" in event and "path" in event:
            return _balanced(event) if "elb" in event["requestContext"] else _version_1(event)
    except (KeyError, TypeError, AttributeError, UnicodeError) as error:  # the last: half of a surrogate pair
        raise InvalidInvocation("Runtime.InvalidEvent", f"The event is malformed; it is {shape(event)}.") from error
    return None


def shape(event: object) -> str:
    """Say what an event looks like without its values, which may be anyone's data."""
    if isinstance(event, dict):
        return f"an object with the keys {sorted(map(str, event))[:20]}"
    return type(event).__name__


def _version_2(event: Mapping[str, Any]) -> HttpRequest:
    context = event["requestContext"]
    http = context["http"]
    headers = _headers_and_cookies(event)
    is_http_api = _is_http_api(event["requestContext"])
    stage = context.get("stage") or "$default"
    scope = _scope(
        method=http["method"],
        path=event["rawPath"],
        root_path=f"/{stage}" if is_http_api and event["rawPath"].startswith(f"/{stage}/") else "",
        query=(event.get("rawQueryString") or "").encode("utf-8", "replace"),
        headers=headers,
        client=http.get("sourceIp"),
        protocol=http.get("protocol"),
        domain=context.get("domainName"),
    )
    return HttpRequest(scope, _body(event), Answer.HTTP_API_2 if is_http_api else Answer.STREAMED)


def _is_http_api(context: Mapping[str, Any]) -> bool:
    """Tell an HTTP API's event from a Function URL's, which has the same format.

    A Function URL's `apiId` is the first label of its only domain, and its route is always `$default`.
    """
    domain = context.get("domainName") or ""
    prefix = context.get("domainPrefix")
    return (
        ".execute-api." in domain
        or context.get("routeKey", "$default") != "$default"
        or (prefix is not None and context.get("apiId") != prefix)
    )


def _version_1(event: Mapping[str, Any]) -> HttpRequest:
    """A REST API's event, or one of an HTTP API with payload format 1.0, which alone says its version."""
    context = event["requestContext"]
    whole, path = context.get("path") or event["path"], event["path"]
    root_path = whole.removesuffix(path) if whole != path and whole.endswith(path) else ""
    scope = _scope(
        method=event["httpMethod"],
        path=f"{root_path}{path}",
        root_path=root_path,
        query=urlencode([*_pairs(event, "queryStringParameters", "multiValueQueryStringParameters")]).encode("ascii"),
        headers=_header_list(event),
        client=(context.get("identity") or {}).get("sourceIp"),
        protocol=context.get("protocol"),
        domain=context.get("domainName"),
    )
    return HttpRequest(scope, _body(event), Answer.HTTP_API_1 if event.get("version") == "1.0" else Answer.STREAMED)


def _balanced(event: Mapping[str, Any]) -> HttpRequest:
    """A load balancer's event: its query is as the client sent it, and the client's address is in a header."""
    headers = _header_list(event)
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    pairs = _pairs(event, "queryStringParameters", "multiValueQueryStringParameters")
    scope = _scope(
        method=event["httpMethod"],
        path=event["path"],
        root_path="",
        query="&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "replace"),
        headers=headers,
        client=found.get("x-forwarded-for", "").rpartition(",")[2].strip() or None,
        protocol=None,
        domain=None,
        scheme=found.get("x-forwarded-proto", "http"),
    )
    lists = event.get("multiValueHeaders") is not None
    return HttpRequest(scope, _body(event), Answer.LOAD_BALANCER_LISTS if lists else Answer.LOAD_BALANCER)


def _scope(
    *,
    method: str,
    path: str,
    root_path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    client: str | None,
    protocol: str | None,
    domain: str | None,
    scheme: str = "https",
) -> dict[str, Any]:
    raw_path = quote(path or "/", safe=_IN_PATHS)
    host = dict(headers).get(b"host", b"").decode("latin-1") or domain or ""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": str(protocol or "HTTP/1.1").rpartition("/")[2],
        "method": method.upper(),
        "scheme": scheme,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("ascii"),
        "query_string": query,
        "root_path": root_path,
        "headers": headers,
        "client": (client, 0) if client else None,  # the port is not told
        "server": _server(host, 443 if scheme == "https" else 80),
        "extensions": {},
    }


def _headers_and_cookies(event: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    cookies = event.get("cookies")
    headers = [
        _header(name, value)
        for name, value in (event.get("headers") or {}).items()
        # Function URLs deliver cookies twice, as a header and as a list
        if not (cookies and name.lower() == "cookie")
    ]
    return [*headers, _header("cookie", "; ".join(cookies))] if cookies else headers


def _header_list(event: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [_header(name, value) for name, value in _pairs(event, "headers", "multiValueHeaders")]


def _pairs(event: Mapping[str, Any], single: str, multiple: str) -> Iterable[tuple[str, str]]:
    """Yield names and values, each value of its own where they came as lists."""
    lists: Mapping[str, Sequence[str]] = event.get(multiple) or {}
    for name, values in lists.items():
        yield from ((name, value) for value in values)
    for name, value in (event.get(single) or {}).items():
        if name not in lists:
            yield name, value


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    """Give back the bytes that the client sent, whichever way AWS had decoded them."""
    try:
        encoded = value.encode("latin-1")
    except UnicodeEncodeError:
        encoded = value.encode("utf-8", "replace")
    return name.lower().encode("latin-1", "replace"), encoded


def _server(authority: str, default_port: int) -> tuple[str, int] | None:
    host, colon, port = authority.rpartition(":")
    if colon and port.isdecimal() and len(port) <= _PORT_DIGITS and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port)
    return (authority.strip("[]"), default_port) if authority else None


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        encoded: bytes = body.encode("utf-8", "surrogatepass")
        return encoded
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:  # binascii.Error is one; characters outside ASCII raise the plain kind
        raise InvalidInvocation("Runtime.InvalidEvent", "The event's body is not base64 as it says.") from error
