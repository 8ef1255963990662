"""A chat's title by the AI, beside the chat's first answer, which never waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from chat.application.ports import AI, AnswerTelemetry, Chats, TextDelta
from chat.application.telemetry_events import FallbackTaken
from chat.domain.errors import AnswerFailed, ChatError
from chat.domain.model import AnswerIds, Usage
from chat.domain.prompt_window import estimate_input
from chat.domain.title import title_from_model, title_request

TITLE_SECONDS = 15.0
"""How long a title is waited for, from the first text of the answer on."""
TITLE_TOKENS = 1024
"""Most of it is for models that think first."""
MAX_CHARACTERS = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriteTitle:
    """Has the AI write titles; one for each process."""

    ai: AI
    chats: Chats
    telemetry: AnswerTelemetry
    model: str | None = None
    """Which model is asked; None for the answer's own."""


class TitleTask:
    """One title on its way: begun at most once, with the answer's first text, so that it delays none of it."""

    def __init__(self, write: WriteTitle, identity: AnswerIds, question: str, tell: Callable[[str], None]) -> None:
        """`tell` hears of the title once it is stored."""
        self._write, self._identity, self._tell = write, identity, tell
        self._messages = title_request(question)
        self._task: asyncio.Task[None] | None = None
        self._usage: Usage | None = None
        self._model = write.model or identity.model

    @property
    def tokens(self) -> int:
        """What it has used: as long as the AI has not said, what it may use."""
        if self._task is None:
            return 0
        if self._usage is not None:
            return self._usage.input_tokens + self._usage.output_tokens
        return self.max_tokens

    @property
    def max_tokens(self) -> int:
        """What it may use at most, as the AI counts, about."""
        return estimate_input(self._messages) + TITLE_TOKENS

    def start(self, ends_at: float) -> None:
        """Ask for it; it is given up at `ends_at`, in the event loop's seconds, if not before."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(ends_at))

    async def finish(self) -> None:
        """Wait until it is stored, or given up."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Give it up; the chat keeps the title that it has."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, ends_at: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(ends_at, loop.time() + TITLE_SECONDS)):
                title = title_from_model(await self._ask())
                if title is None:
                    self._failed("empty")
                elif await self._write.chats.set_title(self._identity.chat_id, title):
                    self._tell(title)
        except (AnswerFailed, ChatError) as error:
            self._failed(error.code)
        except TimeoutError:
            self._failed("timeout")
        except Exception:
            # A title is never worth an answer: the fault is ours and is logged.
            logger.exception("a title failed")

    def _failed(self, reason: str) -> None:
        self._write.telemetry.record(FallbackTaken("title_failed", self._identity.message_id, reason))

    async def _ask(self) -> str:
        text = ""
        async with aclosing(self._write.ai.answer(self._messages, TITLE_TOKENS, self._model)) as batches:
            async for batch in batches:
                for part in batch:
                    if isinstance(part, TextDelta):
                        text += part.text
                    elif isinstance(part, Usage):
                        self._usage = part
                if len(text) > MAX_CHARACTERS:
                    break
        return text
