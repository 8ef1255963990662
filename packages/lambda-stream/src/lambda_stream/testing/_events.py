"""Events as AWS's front doors make them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def function_url_event(
    method: str = "GET",
    path: str = "/",
    body: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    query: str = "",
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a request as a Function URL event; `authorizer` is what AWS_IAM says of the caller.

    Source: AWS Lambda developer guide, "Invoking Lambda function URLs", request payload format version 2.0.
    """
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "function.lambda-url.eu-north-1.on.aws", **(headers or {})},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "function",
            "domainName": "function.lambda-url.eu-north-1.on.aws",
            "domainPrefix": "function",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "lambda_stream.testing",
            },
            "requestId": "00000000-0000-4000-8000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if authorizer is not None:
        event["requestContext"]["authorizer"] = dict(authorizer)
    if body is not None:
        event["body"] = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return event
