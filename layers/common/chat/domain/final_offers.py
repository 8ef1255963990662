"""What is offered to a store that refuses the end of an answer: ever less of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chat.domain.model import FinalAnswer


def final_offers(final: FinalAnswer) -> Iterator[FinalAnswer]:
    """Return `final`, then less and less of it, down to its status alone.

    The text matters most: reasoning and sources go first, then half of the text, again and again, and the finish reason
    last. A text of two million characters makes 24 offers.
    """
    yield final
    less = replace(final, reasoning="", sources=(), is_truncated=True)
    if final.reasoning or final.sources:
        yield less
    while less.text:
        less = replace(less, text=less.text[: len(less.text) // 2])
        yield less
    if less.outcome.finish_reason is not None:
        yield replace(less, outcome=replace(less.outcome, finish_reason=None))
