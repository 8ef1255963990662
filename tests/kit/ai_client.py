"""The AI client as tests use it: pointed at a scripted server, with pauses that are noted instead of made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from chat.adapters.llm.client import OpenAI
from chat.adapters.llm.retries import Sleep
from chat.adapters.llm.transport import LeanTransport
from chat.ai_settings import AISettings, ModelSettings, ProviderSettings
from chat.application.ports import StreamPart, TextDelta
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import ChatMessage
from chat.environment import Secret

KEY = "sk-SECRET-key"
TURNS = [ChatMessage("system", "Be brief."), ChatMessage("user", "안녕 👋")]
MODEL = ModelSettings("some-model", ProviderSettings("http://127.0.0.1:9/v1", Secret(KEY)), "some-model")
SETTINGS = AISettings(
    catalog=(MODEL,),
    context_tokens=1000,
    max_output_tokens=100,
    first_token_timeout_seconds=30,
    stall_timeout_seconds=30,
    max_retries=2,
)

TRANSPORTS: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
    "lean": LeanTransport,
    "httpx": lambda: httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0)),
}


class Asked:
    """A client, and what became of its answers."""

    def __init__(
        self,
        settings: AISettings,
        transport: httpx.AsyncBaseTransport | None = None,
        renew_key: Callable[[], Awaitable[Secret | None]] | None = None,
    ) -> None:
        self.pauses: list[float] = []
        """What would have been waited, between tries."""
        self.renewed: list[str] = []
        """The settings whose keys were read anew."""
        self._make: Sleep | None = None
        self._renew_key = renew_key
        self.ai = OpenAI(settings, self._renew if renew_key else None, transport, self._pause)

    async def _renew(self, setting: str) -> Secret | None:
        self.renewed.append(setting)
        return await self._renew_key() if self._renew_key else None

    def make_pauses(self, sleep: Sleep) -> None:
        """Make pauses in this way from now on."""
        self._make = sleep

    async def collect(
        self, max_tokens: int = 100, turns: Sequence[ChatMessage] = TURNS, model: str | None = None
    ) -> tuple[list[StreamPart], FailureCode | None]:
        """Ask and return everything that came, and how it failed if it did."""
        pieces: list[StreamPart] = []
        try:
            async for batch in self.ai.answer(turns, max_tokens, model or self.ai.models[0]):
                assert batch
                pieces += batch
        except AnswerFailed as failure:
            return pieces, failure.code
        return pieces, None

    async def text(self, model: str | None = None) -> str:
        """Ask and return the text of an answer that does not fail."""
        pieces, failure = await self.collect(model=model)
        assert failure is None
        return joined(pieces)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._make is not None:
            await self._make(seconds)


def joined(pieces: list[StreamPart]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))


def settings_for(url: str, **changes: object) -> AISettings:
    """Return settings for the service at `url`; `changes` are to the settings of the provider, the model, or all."""
    provider = {name: value for name, value in changes.items() if name in ProviderSettings.__dataclass_fields__}
    model = {name: value for name, value in changes.items() if name in ModelSettings.__dataclass_fields__}
    rest = {name: value for name, value in changes.items() if name not in provider | model}
    found = replace(MODEL, provider=replace(MODEL.provider, base_url=url, **provider), **model)
    return replace(SETTINGS, catalog=(found,), **rest)


@asynccontextmanager
async def asking(
    url: str,
    transport: httpx.AsyncBaseTransport | None = None,
    renew_key: Callable[[], Awaitable[Secret | None]] | None = None,
    **changes: object,
) -> AsyncIterator[Asked]:
    """Open a client for the service at `url`; `changes` are as for `settings_for`."""
    async with asking_all(settings_for(url, **changes), transport, renew_key) as asked:
        yield asked


@asynccontextmanager
async def asking_all(
    settings: AISettings,
    transport: httpx.AsyncBaseTransport | None = None,
    renew_key: Callable[[], Awaitable[Secret | None]] | None = None,
) -> AsyncIterator[Asked]:
    """Open a client with these settings."""
    asked = Asked(settings, transport, renew_key)
    try:
        yield asked
    finally:
        await asked.ai.close()
