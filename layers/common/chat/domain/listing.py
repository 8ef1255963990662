"""Chats and messages as a person looks through them: values, cursors, and what fits on a page. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from chat.domain.model import Source, Status, Usage
from chat.domain.title import cut_graphemes, is_inside_grapheme

PREVIEW_CHARACTERS = 120
SNIPPET_CHARACTERS = 160
MAX_PAGE_BYTES = 1 << 20
"""A page of messages ends here, or at its limit; one message is always on it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_MICROSECONDS = 250_000_000_000_000_000
_MAX_SEQ = 1 << 31
_DIGEST_BYTES = 12
_BLANK = re.compile(r"\s+")


class InvalidCursor(ValueError):
    """The cursor is none that this list gave to this user."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of chats ends: behind the chat that was active then. Stable while chats move."""

    updated_at: datetime
    chat_id: str


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A chat as the list shows it."""

    id: str
    title: str | None
    model: str | None
    created_at: datetime
    updated_at: datetime
    active_message_ids: Sequence[str]
    preview: str
    """The beginning of the newest message that says anything."""
    snippet: str | None = None
    """Where a search found its words."""


@dataclass(frozen=True, slots=True)
class ChatDetails:
    """A chat by itself."""

    id: str
    title: str | None
    system_prompt: str | None
    model: str | None
    created_at: datetime
    updated_at: datetime
    active_message_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user thinks of an answer."""

    rating: Literal["up", "down"]
    comment: str | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of the user, or an answer; what the other kind has is None."""

    id: str
    seq: int
    role: str
    parent_id: str | None
    content: str
    reasoning: str
    sources: Sequence[Source]
    status: Status
    finish_reason: str | None
    error_code: str | None
    truncated: bool
    model: str | None
    usage: Usage | None
    created_at: datetime
    finished_at: datetime | None
    feedback: Feedback | None


def preview(text: str, characters: int = PREVIEW_CHARACTERS) -> str:
    """Return the beginning of a text on one line, cut where a reader sees one character end."""
    return cut_graphemes(_BLANK.sub(" ", text).strip(), characters)


def snippet(text: str, words: Sequence[str]) -> str:
    """Return the part of a text around the first of the words, on one line."""
    line = _BLANK.sub(" ", text).strip()
    places = [at for word in words if (at := line.casefold().find(word.casefold())) >= 0]
    start = max(0, min(places, default=0) - SNIPPET_CHARACTERS // 4)
    while 0 < start < len(line) and is_inside_grapheme(line, start):
        start -= 1
    cut = cut_graphemes(line[start:], SNIPPET_CHARACTERS)
    return ("…" if start else "") + cut + ("…" if start + len(cut) < len(line) else "")


def chats_cursor(place: Place, user_id: str, query: str | None) -> str:
    """Return the place as a cursor that is good for this user and this search only."""
    microseconds = (place.updated_at - _EPOCH) // timedelta(microseconds=1)
    return _sealed([microseconds, place.chat_id], ["chats", user_id, query])


def read_chats_cursor(cursor: str, user_id: str, query: str | None) -> Place:
    """Return the place in a cursor.

    Raises:
        InvalidCursor: it was changed, or given for another list.
    """
    match _opened(cursor, ["chats", user_id, query]):
        case [int(microseconds), str(chat_id)] if 0 <= microseconds < _MAX_MICROSECONDS:
            return Place(_EPOCH + timedelta(microseconds=microseconds), chat_id)
    raise InvalidCursor


def messages_cursor(end: tuple[int, str], user_id: str, chat_id: str, view: str) -> str:
    """Return where the page before ends, as a cursor for this chat and this view of it only."""
    return _sealed([*end], ["messages", user_id, chat_id, view])


def read_messages_cursor(cursor: str, user_id: str, chat_id: str, view: str) -> tuple[int, str]:
    """Return the end of a page that is in a cursor.

    Raises:
        InvalidCursor: it was changed, or given for another chat or view.
    """
    match _opened(cursor, ["messages", user_id, chat_id, view]):
        case [int(seq), str(wanted)] if 0 <= seq <= _MAX_SEQ:
            return seq, wanted
    raise InvalidCursor


def _sealed(values: list[object], purpose: list[object]) -> str:
    """Return values with a digest over them and what they are for; they hold nothing that their reader may not know."""
    data = json.dumps(values, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(data, purpose) + data).rstrip(b"=").decode()


def _opened(cursor: str, purpose: list[object]) -> list[Any]:
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, data = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        if digest != _digest(data, purpose) or _sealed(json.loads(data), purpose) != cursor:
            raise InvalidCursor
        values: list[Any] = json.loads(data)
    except ValueError:  # InvalidCursor is one
        raise InvalidCursor from None
    return values


def _digest(data: bytes, purpose: list[object]) -> bytes:
    return hashlib.sha256(json.dumps(purpose).encode() + b"\0" + data).digest()[:_DIGEST_BYTES]
