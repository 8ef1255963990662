"""What a stream tells, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Start:
    """The answer begins, or begins afresh: whatever text came before it is void."""

    chat_id: str
    message_id: str
    user_message_id: str
    session_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Some text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Some of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the answer names."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources that were not named before."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Title:
    """The chat has got a title by the AI."""

    title: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the answer ends before its time; `Done` follows."""

    code: str
    message: str
    retryable: bool
    """Sending the message once more, under its id, may help."""


@dataclass(frozen=True, slots=True)
class Done:
    """The end: always last, exactly once. The answer is stored unless `is_saved` is false."""

    status: str
    """`completed`, `cancelled`, `failed`, `timeout` or `interrupted`."""
    finish_reason: str | None
    message_id: str
    usage: Mapping[str, Any]
    """`inputTokens`, `outputTokens`, `estimated`; `cachedTokens` and `reasoningTokens` where the AI told them."""
    characters: int
    is_saved: bool = True
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event that this version does not know."""

    name: str
    data: Any


Event = Start | Delta | Reasoning | Sources | Title | Failure | Done | Unknown


def parse(name: str, data: str) -> Event:
    """Return the event with this name (`message` where it has none) and this data.

    Raises:
        ValueError: the data is not what such an event has.
    """
    fields = json.loads(data)
    try:
        return _parse(name, fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"malformed event {name!r}") from error


def _parse(name: str, fields: Any) -> Event:
    match name:
        case "message":
            return Delta(fields["delta"])
        case "reasoning":
            return Reasoning(fields["delta"])
        case "start":
            ids = (fields[key] for key in ("chatId", "messageId", "userMessageId", "sessionId", "model"))
            return Start(*ids)
        case "sources":
            return Sources(tuple(Source(one["title"], one["url"]) for one in fields["sources"]))
        case "title":
            return Title(fields["title"])
        case "failure":
            return Failure(fields["code"], fields["message"], fields["retryable"])
        case "done":
            return Done(
                fields["status"],
                fields["finishReason"],
                fields["messageId"],
                fields["usage"],
                fields["characters"],
                fields.get("saved", True),
                fields.get("truncated", False),
            )
    return Unknown(name, fields)
