"""Where answers are asked for: sends requests, learns what they may hold, tries again what may be tried again.

What the service says of its errors is never logged or passed on; nor is a library's message, which may quote it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from chat.adapters.llm.content_encoding import aiter_decoded
from chat.adapters.llm.idle_timeout import IdleTimeout
from chat.adapters.llm.request import Dialect
from chat.adapters.llm.retries import Retries, Sleep
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import ChatMessage
from chat.settings import AISettings, Secret

_MAX_COMPLAINT_BYTES = 64 << 10

RenewKey = Callable[[], Awaitable[Secret | None]]
"""Fetches the key anew; None keeps the one that is."""


class Endpoint:
    """`/chat/completions` below the base URL, whose query, if it has one, is kept."""

    def __init__(
        self, settings: AISettings, client: httpx.AsyncClient, renew_key: RenewKey | None, sleep: Sleep
    ) -> None:
        self._settings = settings
        self._client = client
        self._api_key = settings.api_key
        self._renew_key = renew_key
        self._sleep = sleep
        self._dialects: dict[str, Dialect] = {}
        """What each model takes, as its last success has shown."""
        base = httpx.URL(settings.base_url)
        self._url = base.copy_with(path=base.path.rstrip("/") + "/chat/completions")

    async def ask(self, turns: Sequence[ChatMessage], max_tokens: int, model: str, idle: IdleTimeout) -> httpx.Response:
        """Return a successful response whose body has not been read; to be closed by the caller.

        Raises:
            AnswerFailed: there is none, or the request may have been processed and must not be sent twice.
        """
        retries = Retries(self._settings.max_retries, self._sleep)
        dialect, may_renew_key = self._dialects.get(model, Dialect()), True
        tried = {dialect}
        while True:
            idle.reset(self._settings.first_token_timeout_seconds)
            key = self._api_key
            outcome = await self._send(dialect.encode(model, turns, max_tokens))
            if isinstance(outcome, AnswerFailed):
                failure, retry_after = outcome, None
            elif outcome.is_success:
                self._dialects[model] = dialect
                return outcome
            elif (adapted := dialect.adapted(await _complaint(outcome))) and adapted not in tried:
                dialect = adapted
                tried.add(dialect)
                continue
            elif outcome.status_code == httpx.codes.UNAUTHORIZED and may_renew_key and await self._renewed(key):
                may_renew_key = False
                continue
            else:
                failure, retry_after = failure_of(outcome.status_code), outcome.headers.get("retry-after")
            idle.pause()
            await retries.pause(failure, retry_after)

    async def _send(self, content: bytes) -> httpx.Response | AnswerFailed:
        """Return a response, or why the request cannot have reached the service."""
        headers = {b"content-type": b"application/json"}
        if self._api_key is not None:
            headers[b"authorization"] = b"Bearer " + self._api_key.reveal().encode()
        request = self._client.build_request("POST", self._url, content=content, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return AnswerFailed(FailureCode.AI_UNAVAILABLE, type(error.__cause__ or error).__name__)
        except httpx.TransportError as error:
            raise AnswerFailed(FailureCode.AI_UNAVAILABLE, type(error.__cause__ or error).__name__) from None

    async def _renewed(self, refused: Secret | None) -> bool:
        """Tell whether there is another key to be tried; another answer may have fetched it meanwhile."""
        if self._api_key != refused:
            return True
        found = await self._renew_key() if self._renew_key is not None else None
        if found is None or found == refused:
            return False
        self._api_key = found
        return True


def failure_of(status: int) -> AnswerFailed:
    """Return what a status other than 2xx means for the answer."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        code = FailureCode.AI_RATE_LIMITED
    elif status == httpx.codes.REQUEST_TIMEOUT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        code = FailureCode.AI_UNAVAILABLE
    else:
        code = FailureCode.AI_REJECTED
    return AnswerFailed(code, f"status {status}")


@asynccontextmanager
async def closing(response: httpx.Response) -> AsyncIterator[httpx.Response]:
    """Close the response in the end, and undo the knot that httpx ties: response and stream hold each other, and the
    conversation that was sent, until the garbage collector comes by.
    """
    try:
        yield response
    finally:
        await response.aclose()
        response.stream = httpx.ByteStream(b"")


async def _complaint(response: httpx.Response) -> bytes:
    """Close the response; if it says that something is wrong with the request, return the beginning of what it says."""
    words = b""
    async with closing(response):
        if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            try:
                async for data in aiter_decoded(response):
                    words += data
                    if len(words) > _MAX_COMPLAINT_BYTES:
                        break
            except (httpx.TransportError, httpx.DecodingError):
                pass  # what has come must do
    return words
