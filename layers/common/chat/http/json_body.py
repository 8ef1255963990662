"""Reads a JSON body and its fields strictly. Knows nothing of what the fields are for.

Whatever is wrong becomes an error of `chat.domain.errors` that says which field and why. No error quotes what was
sent, except for a plain field name.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from starlette.requests import Request

from chat.domain.errors import InvalidContent
from chat.domain.model import canonical_uuid, is_name
from chat.http.errors import InvalidRequest, UnsupportedMediaType
from chat.http.request_fields import header, read_body

Body = dict[str, object]

_BOM = "\ufeff"
_UTF8 = {"utf-8", "utf8", "us-ascii", "ascii"}
_JSON = re.compile(
    r"application/json|[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+\+json|text/(?!xml$)[0-9a-z.+-]+"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


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
        return _no_body(may_be_empty)
    _check_type(header(request, "Content-Type"))
    if (header(request, "Content-Encoding") or "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    return _parse(body)


def _no_body(is_allowed: bool) -> Body:
    if not is_allowed:
        raise InvalidRequest("The body is missing: send a JSON object.")
    return {}


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


def _parse(body: bytes) -> Body:
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


def text_field(body: Body, name: str, max_chars: int) -> str | None:
    """Return a string of at most `max_chars` code points; None when it is absent or null.

    Raises:
        InvalidRequest: it is no such string, or holds a lone surrogate.
    """
    value = body.get(name)
    if value is None:
        return None
    text = _string(value, name)
    if len(text) > max_chars:
        raise InvalidRequest(f"The field {name} must have at most {max_chars} characters.")
    if _SURROGATE.search(text):
        raise InvalidRequest(f"The field {name} is not valid Unicode: it holds half of a surrogate pair.")
    return text


def content_field(body: Body, max_chars: int, name: str = "content") -> str:
    """Return a message's text as it came: not empty, not only white space, at most `max_chars` code points.

    Raises:
        InvalidRequest: it is missing or no string.
        InvalidContent: it is a string that cannot be accepted.
    """
    text = _string(body.get(name), name)
    if not text.strip():
        raise InvalidContent(f"The field {name} is empty.")
    if len(text) > max_chars:
        raise InvalidContent(f"The field {name} must have at most {max_chars} characters.")
    if _SURROGATE.search(text):
        raise InvalidContent(f"The field {name} is not valid Unicode: it holds half of a surrogate pair.")
    return text


def uuid_field(body: Body, name: str) -> str | None:
    """Return an id in canonical form; None when it is absent or null.

    Raises:
        InvalidRequest: it is no UUID.
    """
    value = body.get(name)
    if value is None:
        return None
    canonical = canonical_uuid(_string(value, name))
    if canonical is None:
        raise InvalidRequest(f"The field {name} must be a UUID.")
    return canonical


def _string(value: object, name: str) -> str:
    if value is None:
        raise InvalidRequest(f"The field {name} is missing.")
    if not isinstance(value, str):
        raise InvalidRequest(f"The field {name} must be a string.")
    return value
