"""Reads a request strictly: headers, path, query and JSON body. Knows nothing of routes or stores.

What a client may send is a table of fields, each with a place, a name and a form. Whatever is wrong becomes an error
of `chat.http.errors` that says which field and why, and never quotes what was sent, except for a plain field name.
On a Function URL a repeated header arrives as one, joined by commas: no form here allows a comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request

from chat.domain.errors import InvalidContent
from chat.domain.model import ROOT, canonical_uuid, is_name
from chat.domain.text import is_blank
from chat.http.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

T = TypeVar("T")
Body = dict[str, object]

_KEY = re.compile(r"[ -+\--~]{1,200}")
_EVENT_ID = re.compile(r"([^:]{36}):(done|start|[1-9][0-9]{0,9})")
_BOM = "\ufeff"
_UTF8 = {"utf-8", "utf8", "us-ascii", "ascii"}
_JSON = re.compile(
    r"application/json|[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+\+json|text/(?!xml$)[0-9a-z.+-]+"
)
_DIGITS = re.compile(r"[0-9]{1,9}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class LastEventId(NamedTuple):
    """The event that a client saw last.

    `number` is `done` when that was the answer's end, and 0 when it was a `start` that outdated all before it.
    """

    message_id: str
    number: int | Literal["done"]


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """What a field's text must look like: `parse` returns None for anything else."""

    parse: Callable[[str], T | None]
    description: str


@dataclass(frozen=True, slots=True)
class Header(Generic[T]):
    """A request header of a certain form; `purpose` completes the sentence that it is missing."""

    name: str
    form: Form[T]
    purpose: str = ""

    def read(self, request: Request) -> T | None:
        """Return its value, None when it was not sent.

        Raises:
            InvalidRequest: it was sent more than once, or is malformed.
        """
        text = header(request, self.name)
        if text is None:
            return None
        return _parse(text, self.form, f"The header {self.name}", ", sent once")

    def require(self, request: Request) -> T:
        """Return its value.

        Raises:
            InvalidRequest: it was not sent, was sent more than once, or is malformed.
        """
        value = self.read(request)
        if value is None:
            raise InvalidRequest(self.missing)
        return value

    @property
    def missing(self) -> str:
        """What a client is told that did not send it."""
        return f"The header {self.name} is missing: {self.purpose}."


@dataclass(frozen=True, slots=True)
class QueryParameter(Generic[T]):
    """A query parameter of a certain form."""

    name: str
    form: Form[T]

    def read(self, request: Request) -> T | None:
        """Return its value, None when it was not sent.

        Raises:
            InvalidRequest: it was sent more than once, or is malformed.
        """
        text = _once(request.query_params.getlist(self.name), f"The query parameter {self.name}")
        return None if text is None else _parse(text, self.form, f"The query parameter {self.name}")


@dataclass(frozen=True, slots=True)
class PathParameter(Generic[T]):
    """A part of the path of a certain form."""

    name: str
    form: Form[T]

    def read(self, request: Request) -> T:
        """Return its value.

        Raises:
            InvalidRequest: it is malformed.
        """
        return _parse(request.path_params[self.name], self.form, f"{self.name} in the path")


@dataclass(frozen=True, slots=True)
class BodyField(Generic[T]):
    """A string of the JSON body of a certain form."""

    name: str
    form: Form[T]

    def read(self, body: Body) -> T | None:
        """Return its value, None when it is absent or null.

        Raises:
            InvalidRequest: it is no string, or malformed.
        """
        if body.get(self.name) is None:
            return None
        return _parse(_string(body, self.name), self.form, f"The field {self.name}")


def _parse_event_id(text: str) -> LastEventId | None:
    match = _EVENT_ID.fullmatch(text)
    message_id = canonical_uuid(match[1]) if match else None
    if match is None or message_id is None:
        return None
    if match[2] == "done":
        return LastEventId(message_id, "done")
    return LastEventId(message_id, 0 if match[2] == "start" else int(match[2]))


NAME = Form(lambda text: text if is_name(text) else None, "1 to 128 characters of A-Z a-z 0-9 . _ : @ + | -")
KEY = Form(lambda text: text if _KEY.fullmatch(text) else None, "1 to 200 printable ASCII characters without commas")
UUID = Form(canonical_uuid, "a UUID")
EVENT_ID = Form(_parse_event_id, "an event's id: <messageId>:<number>, <messageId>:start or <messageId>:done")

USER_ID = Header("X-User-Id", NAME, "it says who is calling")
SESSION_ID = Header("X-Session-Id", NAME, "it says which of the user's devices is calling")
IDEMPOTENCY_KEY = Header("Idempotency-Key", KEY)
CHAT_ID = PathParameter("chatId", UUID)
MESSAGE_ID_IN_PATH = PathParameter("messageId", UUID)
LEAF = QueryParameter("leaf", UUID)
MESSAGE_ID = QueryParameter("messageId", UUID)
USER_MESSAGE_ID = QueryParameter("userMessageId", UUID)
MESSAGE_ID_FIELD = BodyField("messageId", UUID)
USER_MESSAGE_ID_FIELD = BodyField("userMessageId", UUID)
_LAST_EVENT_HEADER = Header("Last-Event-ID", EVENT_ID)
_LAST_EVENT_QUERY = QueryParameter("lastEventId", EVENT_ID)


def header(request: Request, name: str) -> str | None:
    """Return a header's value without white space around it, None when it was not sent.

    Raises:
        InvalidRequest: it was sent more than once.
    """
    value = _once(request.headers.getlist(name), f"The header {name}")
    return None if value is None else value.strip(" \t")


def last_event_id(request: Request) -> LastEventId | None:
    """Return the header `Last-Event-ID`, else the query's `lastEventId`; None when neither was sent, or it is empty.

    Raises:
        InvalidRequest: the one that counts was sent more than once or is no event's id.

    Source: WHATWG HTML, section 9.2.4: an empty last event id is none.
    """
    sent = header(request, _LAST_EVENT_HEADER.name)
    if sent is not None:
        return _LAST_EVENT_HEADER.read(request) if sent else None
    if request.query_params.getlist(_LAST_EVENT_QUERY.name) == [""]:
        return None
    return _LAST_EVENT_QUERY.read(request)


def query_text(request: Request, name: str, max_chars: int) -> str | None:
    """Return a query parameter of at most `max_chars` code points; None when it was not sent.

    Raises:
        InvalidRequest: it was sent more than once, is too long or empty.
    """
    text = _once(request.query_params.getlist(name), f"The query parameter {name}")
    if text is not None and (complaint := "is empty" if not text else text_complaint(text, max_chars)):
        raise InvalidRequest(f"The query parameter {name} {complaint}.")
    return text


def query_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a query parameter that is a whole number from `least` to `most`.

    Raises:
        InvalidRequest: it was sent more than once, or is no such number.
    """
    text = _once(request.query_params.getlist(name), f"The query parameter {name}")
    if text is None:
        return default
    if not (_DIGITS.fullmatch(text) and least <= int(text) <= most):
        raise InvalidRequest(f"The query parameter {name} must be a whole number from {least} to {most}.")
    return int(text)


def query_flag(request: Request, name: str) -> bool:
    """Return a query parameter that is `true` or `false`; False when it was not sent.

    Raises:
        InvalidRequest: it was sent more than once, or is neither.
    """
    text = _once(request.query_params.getlist(name), f"The query parameter {name}")
    if text not in (None, "true", "false"):
        raise InvalidRequest(f"The query parameter {name} must be true or false.")
    return text == "true"


def content_field(body: Body, max_chars: int, name: str = "content") -> str:
    """Return a message's text as it came: something to see, at most `max_chars` code points.

    Raises:
        InvalidRequest: it is missing or no string.
        InvalidContent: it is a string that cannot be accepted.
    """
    text = _string(body, name)
    if is_blank(text):
        raise InvalidContent(f"The field {name} is empty.")
    if complaint := text_complaint(text, max_chars):
        raise InvalidContent(f"The field {name} {complaint}.")
    return text


def text_field(body: Body, name: str, max_chars: int) -> str | None:
    """Return a string of at most `max_chars` code points; None when it is absent or null.

    Raises:
        InvalidRequest: it is no such string, or holds a lone surrogate.
    """
    if body.get(name) is None:
        return None
    text = _string(body, name)
    if complaint := text_complaint(text, max_chars):
        raise InvalidRequest(f"The field {name} {complaint}.")
    return text


def text_complaint(text: str, max_chars: int) -> str | None:
    """Return what is wrong with a text, None when nothing is."""
    if len(text) > max_chars:
        return f"must have at most {max_chars} characters"
    if _SURROGATE.search(text):
        return "is not valid Unicode: it holds half of a surrogate pair"
    return None


PARENT_ID_FIELD = BodyField("parentMessageId", UUID)
ATTEMPT_ID_FIELD = BodyField("attemptId", UUID)


def parent_field(body: Body) -> str | None:
    """Return which answer a message follows: ROOT for null, None when the field is absent.

    Raises:
        InvalidRequest: it is no UUID.
    """
    return (PARENT_ID_FIELD.read(body) or ROOT) if PARENT_ID_FIELD.name in body else None


def model_field(body: Body, models: Sequence[str]) -> str | None:
    """Return one of `models`; None when the field is absent or null.

    Raises:
        InvalidRequest: it is none of them.
    """
    if body.get("model") is None:
        return None
    model = _string(body, "model")
    if model not in models:
        raise InvalidRequest("The field model must be the id of a model that GET /api/models names.")
    return model


async def read_json(request: Request, limit_bytes: int, may_be_empty: bool = False) -> Body:
    """Return the body's JSON object; an empty one for no body at all where that is allowed.

    Numbers are floats, whatever their size: no field here is a number. A declared type other than JSON or text is
    refused only if there is a body, because `curl -d ''` declares a form.

    Raises:
        PayloadTooLarge: the body is over the limit.
        UnsupportedMediaType: it is declared as something else than UTF-8 JSON text.
        InvalidRequest: it is not UTF-8, not JSON, no object, or has a field twice.

    Source: RFC 8259.
    """
    body = await read_body(request, limit_bytes)
    if not body.strip():
        if not may_be_empty:
            raise InvalidRequest("The body is missing: send a JSON object.")
        return {}
    _check_type(header(request, "Content-Type"))
    if (header(request, "Content-Encoding") or "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    return _parse_json(body)


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


def _once(values: list[str], what: str) -> str | None:
    if len(values) > 1:
        raise InvalidRequest(f"{what} was sent more than once.")
    return values[0] if values else None


def _parse(text: str, form: Form[T], what: str, and_how: str = "") -> T:
    value = form.parse(text)
    if value is None:
        raise InvalidRequest(f"{what} must be {form.description}{and_how}.")
    return value


def _string(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if value is None:
        raise InvalidRequest(f"The field {name} is missing.")
    if not isinstance(value, str):
        raise InvalidRequest(f"The field {name} must be a string.")
    return value


def _check_type(content_type: str | None) -> None:
    if not content_type:
        return
    media_type, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if not _JSON.fullmatch(media_type):
        raise UnsupportedMediaType("The body must be JSON: send it with Content-Type: application/json.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in _UTF8:
            raise UnsupportedMediaType("The body must be in UTF-8.")


def _parse_json(body: bytes) -> Body:
    try:
        text = body.decode().removeprefix(_BOM)
        value = json.loads(text, object_pairs_hook=_object, parse_int=float, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: see byte {error.start}.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body is not JSON: {error.msg} ({where}).") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


def _object(pairs: list[tuple[str, object]]) -> Body:
    made: Body = {}
    for name, value in pairs:
        if name in made:
            which = f"the field {name}" if is_name(name) else "a field"
            raise InvalidRequest(f"The body has {which} more than once.")
        made[name] = value
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"The body is not JSON: {name} is no JSON value.")
