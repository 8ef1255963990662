"""Rows of the tables as values of the model, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from chat.model import FinalRecord, Identity, Opening, Source, Status, StoredAnswer, Usage

URL_CHARACTERS = 2048
TITLE_CHARACTERS = 500


def stored_answer(row: RowMapping, sources: Sequence[Source]) -> StoredAnswer:
    """Return the answer in a row of `messages`."""
    usage = None
    if row["output_tokens"] is not None:
        usage = Usage(row["input_tokens"], row["output_tokens"], bool(row["usage_estimated"]))
    return StoredAnswer(
        Identity(row["chat_id"], row["id"], row["reply_to"], row["session_id"], row["model"]),
        Status(row["status"]),
        row["content"],
        row["reasoning"] or "",
        sources,
        row["finish_reason"],
        row["error_code"],
        usage,
        row["owner_token"],
        row["owner_seen_at"],
        row["deadline_at"],
        row["created_at"],
        row["finished_at"],
    )


def opening_rows(opening: Opening, seq: int, is_first: bool) -> list[dict[str, Any]]:
    """Return the rows that begin an answer: the user's message unless it is stored already, and the answer's."""
    who = opening.identity
    common = {"chat_id": who.chat_id, "session_id": who.session_id, "created_at": opening.now}
    nothing = dict.fromkeys(("reply_to", "model", "active_session", "owner_token", "owner_seen_at", "deadline_at"))
    question = {
        **common,
        **nothing,
        "id": who.user_message_id,
        "seq": seq,
        "role": "user",
        "content": opening.content,
        "status": Status.COMPLETED,
    }
    answer = {
        **common,
        "id": who.message_id,
        "seq": seq + is_first,
        "role": "assistant",
        "content": "",
        "status": Status.STREAMING,
        "reply_to": who.user_message_id,
        "model": who.model,
        "active_session": who.session_id,
        "owner_token": opening.owner_token,
        "owner_seen_at": opening.now,
        "deadline_at": opening.deadline_at,
    }
    return [question, answer] if is_first else [answer]


def final_values(final: FinalRecord) -> dict[str, Any]:
    """Return the columns that the end of an answer sets."""
    return {
        "status": final.ending.status,
        "finish_reason": final.ending.finish_reason and final.ending.finish_reason[:64],
        "error_code": final.ending.error_code,
        "content": final.text,
        "reasoning": final.reasoning or None,
        "input_tokens": final.usage.input_tokens,
        "output_tokens": final.usage.output_tokens,
        "usage_estimated": final.usage.estimated,
        "active_session": None,
        "finished_at": final.finished_at,
    }


def source_rows(chat_id: str, message_id: str, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the rows of an answer's sources."""
    return [
        {
            "chat_id": chat_id,
            "message_id": message_id,
            "position": position,
            "title": source.title[:TITLE_CHARACTERS],
            "url": source.url[:URL_CHARACTERS],
        }
        for position, source in enumerate(sources)
    ]
