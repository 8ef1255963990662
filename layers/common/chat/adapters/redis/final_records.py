"""The final record of an answer as JSON, for the time that MySQL cannot take it."""

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
            "usage": [usage.input_tokens, usage.output_tokens, usage.estimated],
            "finishedAt": final.finished_at.isoformat(),
        }
    )


def load(text: str | bytes) -> FinalAnswer:
    """Read what `dump` wrote."""
    record = json.loads(text)
    return FinalAnswer(
        Outcome(Status(record["status"]), record["finishReason"], record["errorCode"]),
        record["text"],
        record["reasoning"],
        [Source(title, url) for title, url in record["sources"]],
        Usage(*record["usage"]),
        datetime.fromisoformat(record["finishedAt"]),
    )
