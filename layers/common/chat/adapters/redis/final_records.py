"""The final record of an answer as JSON, for the time that MySQL cannot take it."""

from __future__ import annotations

import json
from datetime import datetime

from chat.domain.answer import to_json
from chat.domain.model import Ending, FinalRecord, Source, Status, Usage


def dump(final: FinalRecord) -> str:
    """Return the record as JSON on one line."""
    ending, usage = final.ending, final.usage
    return to_json(
        {
            "status": ending.status,
            "finishReason": ending.finish_reason,
            "errorCode": ending.error_code,
            "text": final.text,
            "reasoning": final.reasoning,
            "sources": [[source.title, source.url] for source in final.sources],
            "usage": [usage.input_tokens, usage.output_tokens, usage.estimated],
            "finishedAt": final.finished_at.isoformat(),
        }
    )


def load(text: str | bytes) -> FinalRecord:
    """Read what `dump` wrote."""
    record = json.loads(text)
    return FinalRecord(
        Ending(Status(record["status"]), record["finishReason"], record["errorCode"]),
        record["text"],
        record["reasoning"],
        [Source(title, url) for title, url in record["sources"]],
        Usage(*record["usage"]),
        datetime.fromisoformat(record["finishedAt"]),
    )
