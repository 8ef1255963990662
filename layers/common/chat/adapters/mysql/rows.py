"""Rows of the tables as values of the model, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select

from chat.adapters.mysql.statements import SOURCES
from chat.domain.model import AnswerIds, Chat, FinalAnswer, NewAnswer, Source, Status, StoredAnswer, Usage

FIRST_SEQ = 1
REASON_CHARACTERS = 64
URL_CHARACTERS = 8192
TITLE_CHARACTERS = 500
MAX_TOKENS = 2**31 - 1
"""What the columns take. Nothing that an AI makes up may keep the end of an answer from being stored."""


def load_answer(connection: Connection, statement: Select[Any], values: dict[str, Any]) -> StoredAnswer | None:
    """Return the answer that `statement` finds; its sources too, which it has only once it has ended."""
    row = connection.execute(statement, values).mappings().first()
    if row is None:
        return None
    sources: list[Source] = []
    if row["status"] != Status.STREAMING:
        place = {"b_chat": row["chat_id"], "b_message": row["id"]}
        sources = [Source(title, url) for title, url in connection.execute(SOURCES, place)]
    return stored_answer(row, sources)


def usage_of(row: RowMapping) -> Usage | None:
    """Return the tokens of an answer; None before its end."""
    if row["output_tokens"] is None:
        return None
    return Usage(
        row["input_tokens"],
        row["output_tokens"],
        bool(row["usage_estimated"]),
        row["cached_tokens"],
        row["reasoning_tokens"],
    )


def stored_answer(row: RowMapping, sources: Sequence[Source]) -> StoredAnswer:
    """Return the answer in a row of the table."""
    return StoredAnswer(
        AnswerIds(row["chat_id"], row["id"], row["reply_to"], row["session_id"], row["model"]),
        Status(row["status"]),
        row["content"],
        row["reasoning"] or "",
        sources,
        row["finish_reason"],
        row["error_code"],
        usage_of(row),
        row["owner_token"],
        row["owner_seen_at"],
        row["deadline_at"],
        row["created_at"],
        row["finished_at"],
        is_truncated=bool(row["truncated"]),
    )


def chat_row(chat: Chat, key: str | None, digest: str | None) -> dict[str, Any]:
    """Return the row of a new chat."""
    return {
        "id": chat.id,
        "user_id": chat.user_id,
        "title": chat.title,
        "has_own_title": chat.title is not None,
        "system_prompt": chat.system_prompt,
        "next_seq": FIRST_SEQ,
        "idempotency_key": key,
        "idempotency_digest": digest,
        "created_at": chat.created_at,
        "updated_at": chat.created_at,
    }


def opening_rows(
    opening: NewAnswer, seq: int, is_first: bool, parent_id: str | None = None, is_aside: bool = False
) -> list[dict[str, Any]]:
    """Return the rows that begin an answer: the user's message unless it is stored already, and the answer's.

    `parent_id` is the message's. An answer stands aside when what follows an earlier one to its message stays active.
    """
    who = opening.identity
    common = {"chat_id": who.chat_id, "session_id": who.session_id, "created_at": opening.now}
    answers_own = ("reply_to", "model", "active_session", "owner_token", "owner_seen_at", "deadline_at", "is_aside")
    nothing = dict.fromkeys(answers_own)
    question = {
        **common,
        **nothing,
        "id": who.user_message_id,
        "seq": seq,
        "role": "user",
        "content": opening.content,
        "status": Status.COMPLETED,
        "parent_id": parent_id,
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
        "parent_id": None,
        "is_aside": is_aside,
    }
    return [question, answer] if is_first else [answer]


def final_values(final: FinalAnswer) -> dict[str, Any]:
    """Return the columns that the end of an answer sets."""
    return {
        "status": final.outcome.status,
        "finish_reason": final.outcome.finish_reason and _storable(final.outcome.finish_reason, REASON_CHARACTERS),
        "error_code": final.outcome.error_code,
        "content": final.text,
        "reasoning": final.reasoning or None,
        "input_tokens": min(final.usage.input_tokens, MAX_TOKENS),
        "output_tokens": min(final.usage.output_tokens, MAX_TOKENS),
        "usage_estimated": final.usage.estimated,
        "cached_tokens": _count(final.usage.cached_tokens),
        "reasoning_tokens": _count(final.usage.reasoning_tokens),
        "active_session": None,
        "finished_at": final.finished_at,
        "truncated": final.is_truncated or None,
    }


def _count(tokens: int | None) -> int | None:
    return None if tokens is None else min(tokens, MAX_TOKENS)


def source_rows(chat_id: str, message_id: str, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the rows of an answer's sources."""
    return [
        {
            "chat_id": chat_id,
            "message_id": message_id,
            "position": position,
            "title": _storable(source.title, TITLE_CHARACTERS),
            "url": _storable(source.url, URL_CHARACTERS),
        }
        for position, source in enumerate(sources)
    ]


def _storable(text: str, characters: int) -> str:
    """Cut, and with question marks for lone surrogates, which are no Unicode text."""
    return text[:characters].encode(errors="replace").decode()
