"""What starting and running an answer share; one for each process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chat.application.ports import AI, AnswerTelemetry, Chats, Leases
from chat.application.write_title import WriteTitle
from chat.domain.events import Event
from chat.domain.model import ChatMessage
from chat.domain.prompt_window import estimate_input

Deliver = Callable[[Sequence[Event], bool], None]
"""Takes events for the client, and whether they carry ids; never blocks, never raises."""

CHECKPOINT_SECONDS = 5.0
"""How often an owner writes its partial text and the time of its last activity to MySQL."""
STORE_SECONDS = 3.0
"""How long the end of an answer is tried on MySQL before it is stashed in Redis."""
MAX_MARGIN = 0.4
"""The deadline's margin is at most this part of the time that was left at the start."""
MAX_CHECKPOINTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request began and must end, in the event loop's seconds."""

    began: float
    stops_at: float
    """Here the model is stopped, so that there is time to store what it said."""
    ends_at: float
    """Here the platform ends the request."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an answer may take, in tokens and seconds."""

    context_tokens: int
    output_tokens: int
    margin_seconds: float
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    store_seconds: float = STORE_SECONDS

    def max_tokens(self, content: str) -> int:
        """Return what an answer to `content` may use, before anything is known of its chat."""
        return max(self.context_tokens, estimate_input([ChatMessage("user", content)])) + self.output_tokens

    def deadline(self, now: float, seconds_left: float) -> Deadline:
        """Return the deadline of a request that begins `now` and may run for `seconds_left`."""
        ends_at = now + seconds_left
        return Deadline(now, ends_at - min(self.margin_seconds, MAX_MARGIN * seconds_left), ends_at)


@dataclass(frozen=True, slots=True)
class AnswerDeps:
    """The ports and limits of every answer."""

    chats: Chats
    leases: Leases
    ai: AI
    telemetry: AnswerTelemetry
    budget: Budget
    now: Callable[[], datetime]
    write_title: WriteTitle | None = None
    """None where titles are made from first messages."""
    checkpoint_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CHECKPOINTS_AT_ONCE))
    """Bounds the checkpoints written at once: their threads take the interpreter from all streams."""
