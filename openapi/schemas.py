"""Schemas of what is sent and answered as JSON, and of ids. The limits are the code's own."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

DEFAULT_CONTENT_CHARS = 32_000
UUID: Schema = {"type": "string", "format": "uuid"}
NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9._:@+|-]{1,128}$", "examples": ["phone-1"]}
KEY: Schema = {"type": "string", "pattern": r"^[!-+\--~]([ -+\--~]{0,198}[!-+\--~])?$", "examples": ["form-7"]}
_HEX = "[0-9A-Fa-f]"
_EVENT_ID = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}:(done|start|[1-9][0-9]{{0,9}})"
EVENT_ID: Schema = {"type": "string", "pattern": f"^{_EVENT_ID}$"}
LAST_EVENT_ID: Schema = {
    "type": "string",
    "pattern": f"^({_EVENT_ID})?$",
    "examples": ["01a2078f-4c60-7d2e-8b53-7a2e3d4c5b6a:12"],
    "description": "Empty is as good as absent.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(**properties: Schema) -> Schema:
    """Return the schema of an object that always has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def optional(schema: Schema) -> Schema:
    """Return `schema` with null allowed."""
    return {**schema, "type": [schema["type"], "null"]}


NOT_BOTH: Schema = {
    "required": ["messageId", "userMessageId"],
    "properties": {"messageId": {"type": "string"}, "userMessageId": {"type": "string"}},
}

PROBE = record(
    ok={"type": "boolean"},
    latencyMs={"type": ["number", "null"], "minimum": 0, "description": "null when it did not answer"},
)

SCHEMAS: dict[str, Schema] = {
    "Message": {
        "type": "object",
        "properties": {
            "content": {
                "type": ["string", "null"],
                "pattern": r"\S",
                "maxLength": DEFAULT_CONTENT_CHARS,
                "description": "Not only white space or other invisible characters; at most "
                "`CHAT_MAX_CONTENT_CHARS` code points.",
            },
            "userMessageId": {
                **optional(UUID),
                "description": "The client's own id for this message, unique within the chat. Sent again with the same "
                "content it never starts a second generation: it follows the running answer or replays the stored one. "
                "After `failed`, `timeout` or `interrupted` it is a retry.",
            },
            "parentMessageId": {
                **optional(UUID),
                "description": "The answer that this message follows; null for the beginning of the chat. Left out: "
                "the end of the active branch. A message is edited by sending it with the parent of the one that is "
                "edited; the old branch stays. Of a running answer: 409.",
            },
            "regenerate": {
                "type": ["object", "null"],
                "properties": {
                    "userMessageId": UUID,
                    "attemptId": {**optional(UUID), "description": "The same attempt never generates twice."},
                },
                "required": ["userMessageId"],
                "description": "In the place of `content`: another answer to a message, beside those that are there.",
            },
            "model": {
                "type": ["string", "null"],
                "description": "One of `GET /api/models`, for this answer only; else the chat's own, else the default.",
            },
            "onBusy": {
                "enum": ["reject", "cancel"],
                "default": "reject",
                "description": "What to do when this session's answer in this chat still runs: refuse with 409, or "
                "cancel it first, as the cancel route does.",
            },
        },
        "oneOf": [
            {
                "required": ["content"],
                "properties": {"content": {"type": "string"}, "regenerate": {"type": "null"}},
            },
            {
                "required": ["regenerate"],
                "properties": {
                    "regenerate": {"type": "object"},
                    **{name: {"type": "null"} for name in ("content", "userMessageId", "parentMessageId")},
                },
            },
        ],
    },
    "UiMessages": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 200},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object"},
                "description": "The last one is the user's, with an `id` and text in its `parts`; no other is read.",
            },
            "trigger": {"enum": ["submit-message", "regenerate-message"]},
            "messageId": {"type": ["string", "null"]},
        },
        "required": ["id", "messages"],
    },
    "CancelTarget": {
        "type": "object",
        "description": "One of them, or neither: then this session's active answer.",
        "properties": {"messageId": optional(UUID), "userMessageId": optional(UUID)},
        "not": NOT_BOTH,
    },
    "Cancelled": record(
        success={"const": True},
        status={"const": "cancelled"},
        messageId=UUID,
        characters={"type": "integer", "minimum": 0, "description": "code points of the partial answer"},
        elapsedMs={"type": "integer", "minimum": 0},
        message={"type": "string"},
    ),
    "Cancelling": record(
        success={"const": True},
        status={"const": "cancelling"},
        messageId={**optional(UUID), "description": "null while the message has not arrived"},
        message={"type": "string"},
    ),
    "NotActive": record(success={"const": False}, status={"const": "not_active"}, message={"type": "string"}),
    "Health": record(
        status={"enum": ["ok", "degraded"], "description": "`degraded` when a store is away"},
        redis=PROBE,
        mysql=PROBE,
        activeStreams={"type": "integer", "minimum": 0},
    ),
}
