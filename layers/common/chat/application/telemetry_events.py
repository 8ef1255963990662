"""What is told to `AnswerTelemetry`: one small value for each thing that happens. None holds a text of a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from chat.domain.answer import Answer
from chat.domain.model import StoredAnswer

Fallback = Literal[
    "checkpoint_missed",
    "checkpoint_refused",
    "final_refused",
    "final_parked",
    "final_lost",
    "follow_from_mysql",
    "follow_blind",
    "redis_away",
    "limits_off",
    "title_failed",
]
"""A way around a dependency that is down: MySQL did not take a partial text, or will take only less of it; it refused
the end and was offered less; it did not take the end, which Redis then kept, or nobody; a follower goes on from MySQL,
or without it; Redis did not answer; limits were not checked; the AI made no title."""


class Probe(NamedTuple):
    """How long one round trip to a store took; None when it did not answer."""

    milliseconds: float | None

    @property
    def is_healthy(self) -> bool:
        return self.milliseconds is not None


@dataclass(frozen=True, slots=True)
class ActiveAnswersCounted:
    """So many answers run in all processes, as Redis has just said."""

    active: int


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """The answer is registered, which took so long, and the AI is asked next."""

    answer: Answer
    user_id: str
    redis_milliseconds: float


@dataclass(frozen=True, slots=True)
class FirstDeltaSent:
    """The first text came, so long after the request."""

    answer: Answer
    user_id: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """The end is stored and delivered; an answer without an outcome was ended by another process."""

    answer: Answer
    user_id: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class CancelAnswered:
    """A cancel got its reply; without a message id the message had not arrived."""

    chat_id: str
    message_id: str | None
    user_id: str | None
    session_id: str
    result: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class OrphanRecovered:
    """The answer of a dead owner was ended: `parked` with the end that its owner had left, else `interrupted`."""

    answer: StoredAnswer
    ending: Literal["parked", "interrupted"]


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A request was refused; `limit` is one of a few fixed words."""

    chat_id: str | None
    user_id: str | None
    session_id: str | None
    limit: str


@dataclass(frozen=True, slots=True)
class FallbackTaken:
    """A way around was taken, by one answer or, without a message id, by the whole process."""

    fallback: Fallback
    message_id: str | None = None
    reason: str = ""
    """The code by which a store refused something."""


@dataclass(frozen=True, slots=True)
class FeedbackGiven:
    """A user has judged an answer."""

    chat_id: str
    message_id: str
    user_id: str
    rating: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class StoresProbed:
    """Both stores were asked how they are."""

    redis: Probe
    mysql: Probe
    active: int | None


TelemetryEvent = (
    ActiveAnswersCounted
    | AnswerStarted
    | FirstDeltaSent
    | AnswerEnded
    | CancelAnswered
    | OrphanRecovered
    | LimitReached
    | FallbackTaken
    | FeedbackGiven
    | StoresProbed
)
