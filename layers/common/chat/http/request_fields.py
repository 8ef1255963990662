"""Reads a request strictly: headers, ids in path and query, the body's bytes. Knows nothing of routes or stores.

Whatever is wrong becomes an error of `chat.domain.errors` that says which part and what to do, and never quotes what
was sent.
On a Function URL a repeated header arrives as one, joined by commas: no form here allows a comma.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from starlette.requests import ClientDisconnect, Request

from chat.domain.model import canonical_uuid, is_name
from chat.http.errors import InvalidRequest, PayloadTooLarge

_NAME_FORM = "1 to 128 characters of A-Z a-z 0-9 . _ : @ -"
_KEY = re.compile(r"[ -+\--~]{1,200}")
_EVENT_ID = re.compile(r"([^:]{36}):(done|start|[1-9][0-9]{0,9})")


class LastEventId(NamedTuple):
    """The event that a client saw last.

    `number` is `done` when that was the answer's end, and 0 when it was a `start` that outdated all before it.
    """

    message_id: str
    number: int | Literal["done"]


def header(request: Request, name: str) -> str | None:
    """Return the header's value without white space around it, None when it was not sent.

    Raises:
        InvalidRequest: it was sent more than once.
    """
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"The header {name} came more than once: send it once.")
    return values[0].strip(" \t") if values else None


def user_id(request: Request) -> str | None:
    """Return `X-User-Id`, None when it was not sent.

    Raises:
        InvalidRequest: it is no user's id.
    """
    return _name(request, "X-User-Id")


def session_id(request: Request) -> str | None:
    """Return `X-Session-Id`, None when it was not sent.

    Raises:
        InvalidRequest: it is no session's id.
    """
    return _name(request, "X-Session-Id")


def _name(request: Request, name: str) -> str | None:
    value = header(request, name)
    if value is not None and not is_name(value):
        raise InvalidRequest(f"The header {name} must be {_NAME_FORM}, sent once.")
    return value


def idempotency_key(request: Request) -> str | None:
    """Return `Idempotency-Key`, None when it was not sent.

    Raises:
        InvalidRequest: it is empty, too long, or has characters other than printable ASCII without the comma.
    """
    value = header(request, "Idempotency-Key")
    if value is not None and not _KEY.fullmatch(value):
        raise InvalidRequest(
            "The header Idempotency-Key must be 1 to 200 printable ASCII characters without commas, sent once."
        )
    return value


def path_uuid(request: Request, name: str = "chatId") -> str:
    """Return an id from the path in canonical form.

    Raises:
        InvalidRequest: it is no UUID.
    """
    return _uuid(request.path_params[name], f"{name} in the path")


def query_uuid(request: Request, name: str) -> str | None:
    """Return an id from the query in canonical form, None when it was not sent.

    Raises:
        InvalidRequest: it came more than once or is no UUID.
    """
    value = _query(request, name)
    return None if value is None else _uuid(value, f"The query parameter {name}")


def last_event_id(request: Request) -> LastEventId | None:
    """Return the header `Last-Event-ID`, else the query's `lastEventId`; None when neither was sent, or it is empty.

    Raises:
        InvalidRequest: the one that counts came more than once or is no event's id.

    Source: WHATWG HTML, section 9.2.4: an empty last event id is none.
    """
    sent = header(request, "Last-Event-ID")
    name = "The header Last-Event-ID" if sent is not None else "The query parameter lastEventId"
    value = sent if sent is not None else _query(request, "lastEventId")
    if not value:
        return None
    match = _EVENT_ID.fullmatch(value)
    message_id = canonical_uuid(match[1]) if match else None
    if match is None or message_id is None:
        raise InvalidRequest(
            f"{name} must be an event's id, sent once: <messageId>:<number>, <messageId>:start or <messageId>:done."
        )
    if match[2] == "done":
        return LastEventId(message_id, "done")
    return LastEventId(message_id, 0 if match[2] == "start" else int(match[2]))


def _query(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"The query parameter {name} came more than once: send it once.")
    return values[0] if values else None


def _uuid(value: str, name: str) -> str:
    canonical = canonical_uuid(value)
    if canonical is None:
        raise InvalidRequest(f"{name} must be a UUID.")
    return canonical


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Return the body.

    Raises:
        PayloadTooLarge: it is declared or turns out to be longer; no more than one piece beyond the limit was read.
        InvalidRequest: its declared length is no number, or the client went away.
    """
    length = header(request, "Content-Length")
    if length is not None and not re.fullmatch(r"[0-9]{1,19}", length):
        raise InvalidRequest("The header Content-Length must be a number, sent once.")
    if int(length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
    except ClientDisconnect:
        raise InvalidRequest("The body did not arrive whole.") from None
    return bytes(body)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is longer than {limit_bytes} bytes.")
