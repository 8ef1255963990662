"""What a Function URL does between HTTP and an invocation: request to event, the function's answer to a response. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (payload format 2.0). What the page leaves
open was taken from events recorded on AWS: `rawPath` comes as it was sent and `http.path` decoded, cookies leave the
headers, and a body is text only under the types in `_is_text`; without a type, or as a form, it is Base64.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

LIMIT_BYTES = 6 * 1024 * 1024
"""Of an event, and of a response that is not streamed."""

_SEPARATOR = b"\0" * 8
_PRELUDE_LIMIT_BYTES = 1024 * 1024
ACCOUNT_ID = "000000000000"
LOCAL_CALLER = {
    "accessKey": "LOCAL",
    "accountId": ACCOUNT_ID,
    "callerId": "local",
    "cognitoIdentity": None,
    "principalOrgId": None,
    "userArn": f"arn:aws:iam::{ACCOUNT_ID}:user/local",
    "userId": "local",
}
"""Whoever reaches this machine's gateway, which answers to this machine only, counts as authenticated by IAM."""
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


class BadResponse(ValueError):
    """What the function returned is no HTTP response."""


class Head(NamedTuple):
    """Status and headers of a response, as ASGI has them."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Request(NamedTuple):
    """An HTTP request as it arrived; the target is not decoded."""

    method: str
    raw_path: str
    path: str
    query: str
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes
    client: str
    http_version: str = "1.1"


def to_event(request: Request, request_id: str, trace_id: str, now: float) -> dict[str, Any]:
    """Return the event that the function receives; `now` in seconds since the epoch."""
    headers, cookies = _headers(request, trace_id)
    host = headers.get("host", "localhost")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.raw_path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": host.split(".")[0],
            "authorizer": {"iam": LOCAL_CALLER},
            "domainName": host,
            "domainPrefix": host.split(".")[0],
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": f"HTTP/{request.http_version}",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _join(parse_qsl(request.query, keep_blank_values=True))
    if request.body:
        event["body"], event["isBase64Encoded"] = _encode(request.body, headers.get("content-type", ""))
    return event


def _headers(request: Request, trace_id: str) -> tuple[dict[str, str], list[str]]:
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers]
    cookies = [part.strip() for name, value in pairs if name == "cookie" for part in value.split(";") if part.strip()]
    headers = _join((name, value) for name, value in pairs if name != "cookie" and name not in _HOP_BY_HOP)
    headers |= {
        "x-forwarded-for": request.client,
        "x-forwarded-proto": "http",
        "x-forwarded-port": headers.get("host", "").partition(":")[2] or "80",
        "x-amzn-trace-id": trace_id,
    }
    return headers, cookies


def _join(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _encode(body: bytes, content_type: str) -> tuple[str, bool]:
    if _is_text(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _is_text(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.startswith("text/") or media_type in {
        "application/json",
        "application/javascript",
        "application/xml",
    }


def split_prelude(received: bytes) -> tuple[Head, bytes] | None:
    """Part a streamed response into its head and the first bytes of its body; None until the head is complete.

    Raises:
        BadResponse: the head is not what `application/vnd.awslambda.http-integration-response` begins with.
    """
    prelude, separator, rest = received.partition(_SEPARATOR)
    if not separator:
        if len(received) > _PRELUDE_LIMIT_BYTES:
            raise BadResponse("no end of the prelude in sight")
        return None
    return _head(_parse_object(prelude), drop={"content-length"}), rest


def from_result(result: bytes) -> tuple[Head, bytes]:
    """Return head and body of a response that was returned whole.

    A result without `statusCode` is the body itself, as JSON with status 200.

    Raises:
        BadResponse: it is no JSON, too large, or has parts of the wrong type.
    """
    if len(result) > LIMIT_BYTES:
        raise BadResponse("the response is over 6 MB")
    try:
        answer = json.loads(result)
    except ValueError:
        raise BadResponse("the response is not JSON") from None
    if not isinstance(answer, dict) or "statusCode" not in answer:
        answer = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": result.decode()}
    body = _body(answer)
    head = _head(answer, drop={"content-length"})
    return Head(head.status, [*head.headers, (b"content-length", str(len(body)).encode())]), body


def _body(answer: Mapping[str, Any]) -> bytes:
    body = _part(answer, "body", "")
    if not isinstance(body, str):
        raise BadResponse("the body is not a string")
    try:
        return base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    except ValueError:
        raise BadResponse("the body is not what it says to be encoded in") from None


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise BadResponse("the prelude is not JSON") from None
    if not isinstance(value, dict):
        raise BadResponse("the prelude is not an object")
    return value


def _head(answer: Mapping[str, Any], drop: set[str]) -> Head:
    status = answer.get("statusCode", 200)
    headers, cookies = _part(answer, "headers", {}), _part(answer, "cookies", [])
    if not (
        isinstance(status, int) and 200 <= status <= 599 and isinstance(headers, dict) and isinstance(cookies, list)
    ):
        raise BadResponse("status, headers or cookies of the wrong type")
    pairs = [(name.lower(), str(value)) for name, value in headers.items()]
    kept = [(name, value) for name, value in pairs if name not in _HOP_BY_HOP | drop]
    return Head(status, [_field(name, value) for name, value in [*kept, *(("set-cookie", str(c)) for c in cookies)]])


def _part(answer: Mapping[str, Any], name: str, default: object) -> Any:
    value = answer.get(name)
    return default if value is None else value


def _field(name: str, value: str) -> tuple[bytes, bytes]:
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or set(value) & {"\r", "\n", "\0"}:
        raise BadResponse("a header that HTTP does not allow")
    try:
        return name.encode(), value.encode("latin-1")
    except UnicodeEncodeError:
        raise BadResponse("a header that HTTP does not allow") from None
