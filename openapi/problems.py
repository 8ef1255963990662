"""Every problem that a client can meet, from the tree of errors: code, status, headers, further members, an example."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from chat.domain.errors import ChatError, RateLimited, StreamInProgress
from chat.http.errors import MethodNotAllowed
from chat.http.problems import (
    MEDIA_TYPE,
    PROBLEM_TYPES,
    TYPE_PREFIX,
    problem,
    problem_headers,
    problem_members,
    problem_type,
)
from openapi.events import MESSAGE_ID
from openapi.schemas import UUID, Schema, record, ref

REQUEST_ID = "5f1c6e0a-8d1b-4a55-9a3d-2f4b7c8d9e10"
_EXAMPLES: dict[type[ChatError], ChatError] = {
    MethodNotAllowed: MethodNotAllowed("GET, POST"),
    RateLimited: RateLimited("Too many messages within a minute.", 17, "minute"),
    StreamInProgress: StreamInProgress(MESSAGE_ID),
}
_EXTRAS: dict[str, Schema] = {"activeMessageId": {**UUID, "description": "the answer that is in the way"}}


def kinds() -> list[type[ChatError]]:
    """Return every kind of error that becomes a response, unknown ones (500) first."""
    return list(PROBLEM_TYPES)


def _example(kind: type[ChatError]) -> ChatError:
    if kind in _EXAMPLES:
        return _EXAMPLES[kind]
    try:
        return kind()  # type: ignore[call-arg]  # those that know their own detail
    except TypeError:
        return kind(_sentence(kind))


def _sentence(kind: type[ChatError]) -> str:
    return (kind.__doc__ or "").splitlines()[0] if kind is not ChatError else "Something went wrong on our side."


def _name(kind: type[ChatError]) -> str:
    return f"{kind.__name__}Problem" if kind is not ChatError else "InternalErrorProblem"


def problem_schemas() -> dict[str, Schema]:
    """Return a schema for each kind of problem, and `ProblemCode`."""
    schemas: dict[str, Schema] = {"ProblemCode": {"enum": [kind.code for kind in kinds()]}}
    for kind in kinds():
        extras = {name: _EXTRAS[name] for name in problem_members(_example(kind))}
        schemas[_name(kind)] = {
            **record(
                type={"const": TYPE_PREFIX + kind.code},
                title={"const": problem_type(kind).title},
                status={"const": problem_type(kind).status},
                detail={
                    "type": "string",
                    "description": "a sentence; never text of a user or of the AI",
                },
                code={"const": kind.code},
                requestId={"type": "string"},
                **extras,
            ),
            "description": _sentence(kind),
        }
    return schemas


def problem_responses() -> dict[str, Any]:
    """Return a response for each kind of problem, by its code."""
    return {kind.code: response([kind]) for kind in kinds()}


def responses(*wanted: type[ChatError]) -> dict[str, Any]:
    """Return the responses of an operation that may meet these problems, by status; 500 always."""
    by_status: defaultdict[int, list[type[ChatError]]] = defaultdict(list)
    every: list[type[ChatError]] = [*wanted, ChatError]
    for kind in every:
        by_status[problem_type(kind).status].append(kind)
    return {
        str(status): {"$ref": f"#/components/responses/{found[0].code}"} if len(found) == 1 else response(found)
        for status, found in sorted(by_status.items())
    }


def response(kinds: list[type[ChatError]]) -> dict[str, Any]:
    """Return the response of these kinds, which have the same status."""
    by_kind = [problem_headers(_example(kind)) for kind in kinds]
    headers = {name for found in by_kind for name in found}
    refs = [ref(_name(kind)) for kind in kinds]
    return {
        "description": " Or: ".join(_sentence(kind) for kind in kinds),
        "headers": {
            "Cache-Control": {"schema": {"const": "no-store"}},
            **{name: _header(name, all(name in found for found in by_kind)) for name in sorted(headers)},
        },
        "content": {
            MEDIA_TYPE: {
                "schema": refs[0] if len(refs) == 1 else {"oneOf": refs},
                "examples": {kind.code: {"value": _document(kind)} for kind in kinds},
            }
        },
    }


def _header(name: str, is_always_there: bool) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1} if name == "Retry-After" else {"type": "string"}
    about = {"description": "seconds"} if name == "Retry-After" else {}
    return {**about, "required": is_always_there, "schema": schema}


def _document(kind: type[ChatError]) -> Any:
    return json.loads(bytes(problem(_example(kind), REQUEST_ID).body))
