"""The final record of an answer as JSON, for the time that MySQL cannot take it.

A deployment may change its form: who reads knows only its own, and a record in another one counts as none.
"""

from __future__ import annotations

import json
from datetime import datetime

from chat.domain.answer import to_json
from chat.domain.model import FinalAnswer, Outcome, Source, Status, Usage


def dump(final: FinalAnswer) -> str:
    """Return the record as JSON on one line."""
    outcome, usage = final.outcome, final.usage
    return to_json(
        {
            "status": outcome.status,
            "finishReason": outcome.finish_reason,
            "errorCode": outcome.error_code,
            "text": final.text,
            "reasoning": final.reasoning,
            "sources": [[source.title, source.url] for source in final.sources],
            "usage": [
                usage.input_tokens,
                usage.output_tokens,
                usage.estimated,
                usage.cached_tokens,
                usage.reasoning_tokens,
            ],
            "finishedAt": final.finished_at.isoformat(),
        }
    )


def load(text: str | bytes) -> FinalAnswer | None:
    """Read what `dump` wrote; None when it cannot be read, because another version of this code wrote it."""
    try:
        record = json.loads(text)
        final = FinalAnswer(
            Outcome(Status(record["status"]), record["finishReason"], record["errorCode"]),
            record["text"],
            record["reasoning"],
            [Source(title, url) for title, url in record["sources"]],
            Usage(*record["usage"]),
            datetime.fromisoformat(record["finishedAt"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return final if _is_storable(final) else None


def _is_storable(final: FinalAnswer) -> bool:
    outcome, usage = final.outcome, final.usage
    texts = [final.text, final.reasoning, *[part for source in final.sources for part in (source.title, source.url)]]
    words = [word for word in (outcome.finish_reason, outcome.error_code) if word is not None]
    counts = [usage.input_tokens, usage.output_tokens, usage.cached_tokens or 0, usage.reasoning_tokens or 0]
    return (
        outcome.status is not Status.STREAMING
        and all(isinstance(text, str) for text in texts + words)
        and all(isinstance(count, int) for count in counts)
        and final.finished_at.tzinfo is not None
    )
