"""Where answers are asked for: sends requests, learns what they may hold, tries again what may be tried again.

What the service says of its errors is never logged or passed on; nor is a library's message, which may quote it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from chat import trace_context
from chat.adapters.llm.authorization import Grant
from chat.adapters.llm.content_encoding import aiter_decoded
from chat.adapters.llm.idle_timeout import IdleTimeout
from chat.adapters.llm.provider import Provider
from chat.adapters.llm.request import Dialect
from chat.adapters.llm.retries import Retries, Sleep
from chat.ai_settings import ModelSettings
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import ChatMessage

_MAX_COMPLAINT_BYTES = 64 << 10


class Endpoint:
    """`/chat/completions` below the provider's base URL, whose query, if it has one, is kept, for one model."""

    def __init__(
        self,
        model: ModelSettings,
        provider: Provider,
        first_token_timeout_seconds: float,
        max_retries: int,
        sleep: Sleep,
    ) -> None:
        self._model = model
        self._provider = provider
        self._first_token_timeout_seconds = first_token_timeout_seconds
        self._max_retries = max_retries
        self._sleep = sleep
        self._dialect = Dialect()
        """What the model takes, as its last answer has shown."""
        base = httpx.URL(provider.settings.base_url)
        self._url = base.copy_with(path=base.path.rstrip("/") + "/chat/completions")

    async def ask(self, turns: Sequence[ChatMessage], max_tokens: int, idle: IdleTimeout) -> httpx.Response:
        """Return a successful response whose body has not been read; to be closed by the caller.

        Raises:
            AnswerFailed: there is none, or the request may have been processed and must not be sent twice.
        """
        retries = Retries(self._max_retries, self._sleep)
        dialect, tried, may_renew = self._dialect, {self._dialect}, True
        while True:
            idle.reset(self._first_token_timeout_seconds)
            content = dialect.encode(self._model.name, turns, max_tokens, self._model.body)
            grant = await self._provider.authorization.grant(self._url, content)
            outcome = await self._send(content, grant)
            if isinstance(outcome, AnswerFailed):
                failure, retry_after = outcome, None
            elif outcome.is_success:
                self._dialect = dialect
                return outcome
            elif others := dialect.alternatives(await _complaint(outcome), self._model.body):
                untried = [other for other in others if other not in tried]
                if not untried:
                    self._dialect = Dialect()  # what was learnt is no longer true
                    raise self._failure_of(outcome.status_code)
                dialect = untried[0]
                tried.add(dialect)
                continue
            elif may_renew and await self._renewed(outcome.status_code, grant):
                may_renew = False
                continue
            else:
                failure, retry_after = self._failure_of(outcome.status_code), outcome.headers.get("retry-after")
            idle.pause()
            await retries.pause(failure, retry_after)

    async def _send(self, content: bytes, grant: Grant) -> httpx.Response | AnswerFailed:
        """Return a response, or why the request cannot have reached the service."""
        provider = self._provider
        headers = {**provider.headers, "content-type": "application/json", **grant.headers}
        if (parent := trace_context.traceparent()) is not None:
            headers["traceparent"] = parent
        try:
            request = provider.client.build_request("POST", self._url, content=content, headers=headers)
            return await provider.client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            return self._unreachable(error)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> AnswerFailed:
        detail = type(error.__cause__ or error).__name__
        if self._provider.proxy is None:
            return AnswerFailed(FailureCode.AI_UNAVAILABLE, detail)
        proxy = self._provider.proxy
        self._provider.tell_once(f"the AI cannot be reached through the proxy in between: check {proxy} and NO_PROXY")
        message = "The AI service cannot be reached through the proxy in between."
        return AnswerFailed(FailureCode.AI_UNAVAILABLE, f"{detail}, with {proxy}", message)

    async def _renewed(self, status: int, grant: Grant) -> bool:
        authorization = self._provider.authorization
        return status in authorization.REFUSED and await authorization.renewed(grant)

    def _failure_of(self, status: int) -> AnswerFailed:
        """Return what a status means for the answer, and tell the operator what can be done."""
        refusal = self._provider.authorization.refusal(status)
        if refusal is not None:
            self._provider.tell_once(refusal)
        failure = failure_of(status)
        is_role = refusal is not None and self._provider.settings.role is not None
        return AnswerFailed(failure.code, failure.detail, f"{refusal}." if is_role else failure.message)


def failure_of(status: int) -> AnswerFailed:
    """Return what a status other than 2xx means for the answer."""
    detail = f"status {status}"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return AnswerFailed(FailureCode.AI_RATE_LIMITED, detail)
    if status == httpx.codes.REQUEST_TIMEOUT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        message = f"The AI service answered with an error ({status})."
        return AnswerFailed(FailureCode.AI_UNAVAILABLE, detail, message)
    return AnswerFailed(FailureCode.AI_REJECTED, detail)


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
