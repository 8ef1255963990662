"""Answers from any OpenAI-compatible service: reads what comes, bears silence for a time, closes what is left early.

Knows nothing of what a body means (`sse_decoder`), of what is sent (`endpoint`) or of how bytes travel (`transport`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpx

from chat.adapters.llm.authorization import RenewKey
from chat.adapters.llm.content_encoding import aiter_decoded
from chat.adapters.llm.endpoint import Endpoint, closing
from chat.adapters.llm.idle_timeout import IdleTimeout
from chat.adapters.llm.provider import open_providers
from chat.adapters.llm.retries import Sleep
from chat.adapters.llm.sse_decoder import SseDecoder
from chat.ai_settings import AISettings
from chat.application.ports import Dropped, Finish, StreamPart
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import ChatMessage, Usage

USAGE_SECONDS = 3.0
"""How long the tokens used, or the end, are waited for once the model has said that it is finished."""
DRAIN_SECONDS = 0.1
"""How long the end of the body is waited for after `[DONE]`, so that the connection can be used again."""


class OpenAI:
    """All models, each at its provider. To be closed after the last answer has ended."""

    def __init__(
        self,
        settings: AISettings,
        renew_key: RenewKey | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Open nothing yet. `renew_key` is asked for a new key, once an answer, when one is refused.

        With a `transport` all providers use that one, which is for tests and measurements.

        Raises:
            SettingsError: what signs requests is not installed.
        """
        self._settings = settings
        self._providers = open_providers(settings, renew_key, transport)
        self._endpoints = {
            model.id: Endpoint(
                model,
                self._providers[model.provider],
                settings.first_token_timeout_seconds,
                settings.max_retries,
                sleep,
            )
            for model in settings.catalog
        }

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the models, the default first."""
        return self._settings.models

    async def warm(self, timeout_seconds: float) -> None:
        """Make ready what the first answer would wait for: a connection, and what signs requests. Never fails."""
        first, *_ = self._providers.values()
        preparing = [provider.prepare() for provider in self._providers.values()]
        await asyncio.gather(first.warm(timeout_seconds), *preparing)

    async def close(self) -> None:
        """Close every connection."""
        for provider in self._providers.values():
            await provider.close()

    async def answer(
        self, turns: Sequence[ChatMessage], max_tokens: int, model: str
    ) -> AsyncGenerator[Sequence[StreamPart], None]:
        """Ask once and yield what arrives, one batch for each read; see `ports.AI`."""
        decoder = SseDecoder(self._settings.think_tags)
        broken: AnswerFailed | None = None
        try:
            async with (
                IdleTimeout() as idle,
                closing(await self._endpoints[model].ask(turns, max_tokens, idle)) as response,
                aclosing(aiter_decoded(response)) as chunks,
            ):
                may_extend = False
                async for data in chunks:
                    was_done, was_finished = decoder.is_done, decoder.is_finished
                    keep_alives = decoder.keep_alives
                    parts = decoder.feed(data)
                    if parts:
                        idle.pause()
                        yield parts
                        idle.resume()
                    if was_done or decoder.failure:
                        break
                    if decoder.is_done or decoder.is_finished > was_finished or any(map(_is_sign_of_life, parts)):
                        idle.reset(self._silence_after(decoder))
                        may_extend = not decoder.is_finished
                    elif may_extend and decoder.keep_alives > keep_alives:
                        idle.reset(self._settings.first_token_timeout_seconds)
                        may_extend = False  # once in each silence: comments may go on for ever
        except (TimeoutError, httpx.DecodingError, httpx.TransportError) as error:
            broken = None if decoder.is_done else _failure_of(error)
        if parts := decoder.finish():
            yield parts
        if decoder.dropped:
            yield [Dropped(decoder.dropped)]
        if decoder.failure:
            raise broken or decoder.failure

    def _silence_after(self, decoder: SseDecoder) -> float:
        if decoder.is_done:
            return DRAIN_SECONDS
        stall = self._settings.stall_timeout_seconds
        return min(stall, USAGE_SECONDS) if decoder.is_finished else stall


def _is_sign_of_life(part: StreamPart) -> bool:
    """Tell what is part of an answer from what may be repeated for ever."""
    return not isinstance(part, Usage | Finish)


def _failure_of(error: TimeoutError | httpx.DecodingError | httpx.TransportError) -> AnswerFailed:
    """Return what it means for the answer when the response breaks off."""
    if isinstance(error, TimeoutError):
        return AnswerFailed(FailureCode.AI_TIMEOUT)
    is_cut = isinstance(error, httpx.TransportError)
    return AnswerFailed(FailureCode.AI_INCOMPLETE if is_cut else FailureCode.AI_INVALID, type(error).__name__)
