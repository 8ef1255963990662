"""What a stream of the soak is to be: its kind, what the AI says in it, and how it may end. Pure, drawn from a seed.

The plan travels to the AI inside the user's message, so that client and AI agree on every character. Each message and
each delta contains a marker word, which no log may ever contain.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from random import Random

MARKS = ("quokka", "쿼카")
KINDS = (
    "plain",
    "long",
    "korean",
    "reasoning",
    "error_before",
    "error_after",
    "truncated",
    "cancel_session",
    "cancel_message",
    "cancel_user_message",
    "leaves",
    "resumes",
    "watched",
    "duplicate",
    "slow",
)
ENDS = {
    "error_before": "failed",
    "error_after": "failed",
    "truncated": "failed",
    "cancel_session": "cancelled",
    "cancel_message": "cancelled",
    "cancel_user_message": "cancelled",
}
"""How an undisturbed stream of a kind ends; all others are `completed`."""
_LONG = {"long": 100, "cancel_session": 100, "cancel_message": 100, "cancel_user_message": 100, "slow": 40}
_EMOJI = ("👩‍👩‍👧‍👦", "🇰🇷", "é", "각", "\u2028", "𝒳", "\\n")


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer as it is to be said."""

    kind: str
    number: int
    count: int
    """Deltas of text that the AI says, unless it is stopped."""
    pace_seconds: float
    at: int
    """After how many deltas the client does what its kind is about."""

    @property
    def deltas(self) -> list[str]:
        return [self._delta(at) for at in range(self.count)]

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    @property
    def reasoning(self) -> list[str]:
        thoughts = 5 if self.kind == "reasoning" else 0
        return [f"{MARKS[0]} thinks {self.number}.{at} " for at in range(thoughts)]

    @property
    def sources(self) -> list[dict[str, str]]:
        named = 2 if self.kind == "reasoning" else 0
        return [{"title": f"{MARKS[0]} {at}", "url": f"https://example.com/{self.number}/{at}"} for at in range(named)]

    @property
    def ends(self) -> str:
        return ENDS.get(self.kind, "completed")

    @property
    def content(self) -> str:
        """The user's message that asks for it."""
        return f"{MARKS[0]} {MARKS[1]} {json.dumps(asdict(self))}"

    def _delta(self, at: int) -> str:
        if self.kind == "korean":
            return f"{MARKS[1]}가 {self.number}번째로 {at}{_EMOJI[at % len(_EMOJI)]} "
        return f"{MARKS[0]} {self.number}.{at} "


def read(content: str) -> Plan:
    """Read the plan out of a user's message."""
    return Plan(**json.loads(content[content.index("{") :]))


def draw(random: Random, number: int, pace_seconds: float, kind: str | None = None) -> Plan:
    """Draw one stream."""
    kind = kind or random.choice(KINDS)
    count = 0 if kind == "error_before" else _LONG.get(kind, random.randint(5, 40))
    at = random.randint(0, min(count, 30) // 2)
    return Plan(kind, number, count, pace_seconds, at)
