"""A small client of the service for trying it: JSON requests and event streams, signed where a Function URL asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource

Sign = Callable[[str, str, bytes, dict[str, str]], dict[str, str]]


class NoAccess(RuntimeError):
    """AWS cannot be asked: no credentials, no region, no such stack; the message says which."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; its data is JSON."""

    name: str
    data: dict[str, Any]


def signer(url: str) -> Sign | None:
    """Return what signs requests to this Function URL with the environment's credentials; None for other addresses.

    Raises:
        NoAccess: there are no credentials.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html (AWS_IAM: Signature Version 4, service lambda).
    """
    host = (urlsplit(url).hostname or "").split(".")
    if host[1:2] != ["lambda-url"]:
        return None
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.session import Session

    credentials = Session().get_credentials()
    if credentials is None:
        raise NoAccess("there are no AWS credentials to sign requests with, and no CHAT_TOKEN to send instead")

    def sign(method: str, address: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        request = AWSRequest(method=method, url=address, data=body, headers=headers)
        SigV4Auth(credentials, "lambda", host[2]).add_auth(request)
        return dict(request.headers)

    return sign


@dataclass(frozen=True, slots=True)
class Caller:
    """One function's address."""

    client: httpx.AsyncClient
    url: str
    sign: Sign | None = None

    async def send(self, method: str, path: str, content: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request and return the whole response."""
        return await self.client.send(self._request(method, path, content))

    async def events(self, method: str, path: str, content: dict[str, Any] | None = None) -> AsyncIterator[Event]:
        """Send a request and yield the events of its answer as they arrive.

        Raises:
            httpx.HTTPStatusError: the answer is no 2xx.
        """
        response = await self.client.send(self._request(method, path, content), stream=True)
        try:
            if response.is_error:
                await response.aread()
                response.raise_for_status()
            async for event in EventSource(response).aiter_sse():
                yield Event(event.event, json.loads(event.data))
        finally:
            await response.aclose()

    def _request(self, method: str, path: str, content: dict[str, Any] | None) -> httpx.Request:
        body = b"" if content is None else json.dumps(content).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        if self.sign is not None:
            headers = self.sign(method, self.url + path, body, headers)
        return self.client.build_request(method, self.url + path, content=body, headers=headers)


@dataclass(frozen=True, slots=True)
class Service:
    """The three functions."""

    create: Caller
    stream: Caller
    cancel: Caller
