"""The AI client as tests use it: pointed at a scripted server, with pauses that are noted instead of made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from chat.adapters.llm.client import OpenAI, open_client
from chat.adapters.llm.endpoint import RenewKey
from chat.adapters.llm.retries import Sleep
from chat.adapters.llm.transport import LeanTransport
from chat.application.ports import StreamPart, TextDelta
from chat.domain.errors import AnswerFailed, FailureCode
from chat.domain.model import ChatMessage
from chat.settings import AISettings, Secret

KEY = "sk-SECRET-key"
TURNS = [ChatMessage("system", "Be brief."), ChatMessage("user", "안녕 👋")]
SETTINGS = AISettings(
    api_key=Secret(KEY),
    base_url="http://127.0.0.1:9/v1",
    models=("some-model",),
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

    def __init__(self, settings: AISettings, client: httpx.AsyncClient, renew_key: RenewKey | None = None) -> None:
        self.pauses: list[float] = []
        """What would have been waited, between tries."""
        self._make: Sleep | None = None
        self.ai = OpenAI(settings, client, renew_key, self._pause)

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

    async def text(self) -> str:
        """Ask and return the text of an answer that does not fail."""
        pieces, failure = await self.collect()
        assert failure is None
        return joined(pieces)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._make is not None:
            await self._make(seconds)


def joined(pieces: list[StreamPart]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))


@asynccontextmanager
async def asking(
    url: str,
    transport: httpx.AsyncBaseTransport | None = None,
    renew_key: RenewKey | None = None,
    **changes: object,
) -> AsyncIterator[Asked]:
    """Open a client for the service at `url`; `changes` are to the settings."""
    settings = replace(SETTINGS, base_url=url, **changes)
    async with open_client(settings, transport) as client:
        yield Asked(settings, client, renew_key)
