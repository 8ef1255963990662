"""What both clients share: requests, errors, and when to connect again. No I/O."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from httpx_sse import ServerSentEvent, SSEError

from aiva_chat_client._events import Delta, Done, Event, Reasoning, Start, parse

Function = Literal["create", "stream", "cancel", "manage"]
OnBusy = Literal["reject", "cancel"]
ROOT = ""
"""As `parent_id`: the message follows nothing, it begins the chat anew."""
ATTEMPTS = 8
"""How often in a row a stream is connected again before it is given up."""
TIMEOUT = httpx.Timeout(10, read=45)
"""Seconds. A stream is never silent for longer than 15, so a connection that is has died."""
_PASSING = (502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


class ChatServiceError(Exception):
    """The service refused a request; `str` of it is the reason in words.

    Source of the fields: RFC 9457, problem details.
    """

    def __init__(self, response: httpx.Response) -> None:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        self.problem: Mapping[str, Any] = problem if isinstance(problem, dict) else {}
        self.status = response.status_code
        self.code = str(self.problem.get("code", ""))
        """One word, such as `chat_not_found` or `rate_limited`; empty where something in between answered."""
        seconds = response.headers.get("retry-after", "")
        self.retry_after_seconds = int(seconds) if seconds.isdecimal() else None
        super().__init__(str(self.problem.get("detail") or f"HTTP {self.status}"))


class StreamBroken(Exception):
    """The stream could not be had to its end, however often it was asked for. The answer may go on without it."""


class BearerAuth(httpx.Auth):
    """Sends a token that is asked for before each request, so that it may be renewed meanwhile."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._token()}"
        yield request


@dataclass(frozen=True, slots=True)
class Request:
    """A request to one of the functions."""

    function: Function
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def build(
        self, client: httpx.Client | httpx.AsyncClient, urls: Mapping[Function, str], more: Mapping[str, str]
    ) -> httpx.Request:
        """Return it as httpx sends it. CloudFront passes a body on to a Function URL only with its digest."""
        headers, content = {**self.headers, **more}, None
        if self.body is not None:
            content = json.dumps(self.body, ensure_ascii=False).encode()
            headers |= {"content-type": "application/json", "x-amz-content-sha256": hashlib.sha256(content).hexdigest()}
        params = {name: value for name, value in self.params.items() if value is not None}
        url = urls[self.function].rstrip("/") + self.path
        return client.build_request(self.method, url, content=content, params=params, headers=headers)


def functions(urls: str | Mapping[Function, str]) -> Mapping[Function, str]:
    """Return the address of each function; one address may stand for all."""
    return {"create": urls, "stream": urls, "cancel": urls, "manage": urls} if isinstance(urls, str) else urls


def given(**members: Any) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def message(
    content: str, user_message_id: str | None, parent_id: str | None, model: str | None, on_busy: OnBusy | None
) -> dict[str, Any]:
    """Return the body of a message. It always has an id, so that a request that is repeated starts nothing twice."""
    body = given(content=content, userMessageId=user_message_id or str(uuid.uuid4()), model=model, onBusy=on_busy)
    return body if parent_id is None else {**body, "parentMessageId": parent_id or None}


class Progress:
    """How far a stream has come, and whether it is worth another attempt."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.text = ""
        self.reasoning = ""
        self.done: Done | None = None
        self.message_id: str | None = None
        self._failures = 0
        self._pause: float | None = None

    def take(self, event: ServerSentEvent) -> Event:
        """Note an event that has come whole."""
        found = parse(event.event, event.data)
        self.last_event_id = event.id
        match found:
            case Start():
                self.text, self.reasoning, self.message_id = "", "", found.message_id
            case Delta():
                self.text += found.text
            case Reasoning():
                self.reasoning += found.text
            case Done():
                self.done = found
        if not isinstance(found, Start):
            self._failures = 0
        return found

    def refused(self, response: httpx.Response) -> None:
        """Raise what the service answered, unless it may pass; of one that has begun, also that there are too many."""
        has_begun = bool(self.last_event_id)
        if response.status_code not in (*_PASSING, *((429,) if has_begun else ())):
            raise ChatServiceError(response)
        error = ChatServiceError(response)
        self._pause = error.retry_after_seconds
        if self._failures + 1 >= ATTEMPTS:
            raise error

    def pause(self, error: Exception | None) -> float:
        """Return how many seconds to wait before the next attempt.

        Raises:
            StreamBroken: there have been enough.
        """
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise StreamBroken("the stream broke off, and could not be had again") from error
        pause, self._pause = self._pause, None
        longest = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        return pause if pause is not None else random.uniform(longest / 2, longest)  # noqa: S311  # jitter


BROKEN = (httpx.TransportError, SSEError, ValueError)
"""What happens to a stream on its way."""
