"""What each route takes and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chat.application.cancel_answer import Cancelling, NotActive
from chat.domain.errors import (
    ChatChanged,
    ChatError,
    ChatNotFound,
    IdempotencyConflict,
    InvalidContent,
    MessageNotFound,
    RateLimited,
    StorageUnavailable,
    StreamInProgress,
    UnsupportedContent,
)
from chat.http.errors import Forbidden, InvalidRequest, PayloadTooLarge, Unauthenticated, UnsupportedMediaType
from chat.http.routes import describe
from openapi.events import CHAT_ID, MESSAGE_ID, USER_MESSAGE_ID, examples, item_schema
from openapi.problems import responses
from openapi.schemas import KEY, LAST_EVENT_ID, NAME, UUID, Schema, ref

Operation = dict[str, Any]
Problems = Sequence[type[ChatError]]

TAGS = [
    {"name": "create_chat", "description": "The function that creates chats."},
    {"name": "stream_chat", "description": "The function that streams answers."},
    {"name": "manage_chats", "description": "The function that lists, reads, changes and deletes chats."},
    {"name": "cancel_stream", "description": "The function that cancels answers."},
    {"name": "health", "description": "Every function has it."},
]

IDENTITY: Problems = (InvalidRequest, Unauthenticated, Forbidden, StorageUnavailable)
BODY: Problems = (PayloadTooLarge, UnsupportedMediaType)
USER: list[dict[str, list[str]]] = [{"token": []}, {"user": []}]


def parameter(name: str, place: str, schema: Schema, description: str, is_required: bool = False) -> dict[str, Any]:
    """Return a parameter; a path's is always required."""
    return {
        "name": name,
        "in": place,
        "required": is_required or place == "path",
        "description": description,
        "schema": schema,
    }


CHAT = parameter("chatId", "path", UUID, "The chat.")
SESSION = parameter("X-Session-Id", "header", NAME, "One device or tab of the user.", True)
LAST_EVENT = [
    parameter("Last-Event-ID", "header", LAST_EVENT_ID, "The last event received: what came after it is sent."),
    parameter("lastEventId", "query", LAST_EVENT_ID, "The same, where the header cannot be set; the header counts."),
]
WHICH = [
    parameter(
        "messageId",
        "query",
        UUID,
        "Follow this answer. Not together with `userMessageId`; neither is looked at when a last event is named.",
    ),
    parameter("userMessageId", "query", UUID, "Follow the newest answer to this message."),
]


def body(schema: str, is_required: bool, **named: Any) -> dict[str, Any]:
    """Return a request's body."""
    content = {"schema": ref(schema), "examples": {name: {"value": value} for name, value in named.items()}}
    return {"required": is_required, "content": {"application/json": content}}


def answers(description: str, schema: Schema, **named: Any) -> dict[str, Any]:
    """Return a response in JSON."""
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in named.items()}}
    return {"description": description, "content": {"application/json": content}}


def _link(operation: str, description: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"chatId": "$response.body#/chatId"}, "description": description}


STREAM = {
    "description": "The answer's events, until `done`. A comment line comes when nothing else does.",
    "headers": {"Cache-Control": {"schema": {"const": "no-store, no-transform"}}},
    "content": {
        "text/event-stream": {"schema": {"type": "string"}, "x-itemSchema": item_schema(), "examples": examples()}
    },
}
NOTHING = {"description": "Nothing to follow: nothing is active, or the client has all of it."}

LINKS = {
    "stream": _link("streamAnswer", "Send the first message."),
    "watch": _link("followAnswer", "Follow an answer."),
    "cancel": _link("cancelAnswer", "Cancel an answer."),
}
NEW_CHAT_EXAMPLES = {
    "titled": {"value": {"title": "Travel", "systemPrompt": "Answer briefly."}},
    "nothing": {"value": {}},
}
A_CHAT = {"chatId": CHAT_ID, "title": None, "createdAt": "2026-01-31T12:00:00.000Z"}


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return parameter(name, "query", schema, description)


LIMIT = _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 30}, "How many at most.")
CURSOR = _query(
    "cursor", {"type": "string", "minLength": 1, "maxLength": 400}, "`nextCursor` of the page before; opaque."
)
MESSAGE = parameter("messageId", "path", UUID, "The answer.")
IF_MATCH = parameter("If-Match", "header", {"type": "string"}, "The `ETag` that the chat was read with.")
ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Of what PATCH changes."}}

FASTAPI: dict[str, tuple[list[dict[str, Any]], Problems]] = {
    "createChat": (
        [parameter("Idempotency-Key", "header", KEY, "The same key from the same user gives the same chat.")],
        (*IDENTITY, *BODY, IdempotencyConflict, RateLimited),
    ),
    "listChats": (
        [
            _query("q", {"type": "string", "minLength": 2, "maxLength": 200}, "Words that a title or a message holds."),
            LIMIT,
            CURSOR,
        ],
        IDENTITY,
    ),
    "deleteChats": ([], IDENTITY),
    "readChat": ([CHAT], (*IDENTITY, ChatNotFound)),
    "changeChat": ([CHAT, IF_MATCH], (*IDENTITY, *BODY, ChatNotFound, ChatChanged)),
    "deleteChat": ([CHAT], (*IDENTITY, ChatNotFound)),
    "listMessages": (
        [
            CHAT,
            _query("leaf", UUID, "The branch that ends with this message; else the active one."),
            _query("all", {"enum": ["true", "false"]}, "All branches, in the order in which they were stored."),
            LIMIT,
            CURSOR,
        ],
        (*IDENTITY, ChatNotFound, MessageNotFound),
    ),
    "putFeedback": ([CHAT, MESSAGE], (*IDENTITY, *BODY, ChatNotFound, MessageNotFound)),
    "deleteFeedback": ([CHAT, MESSAGE], (*IDENTITY, ChatNotFound, MessageNotFound)),
    "listModels": ([], IDENTITY),
}
"""What FastAPI does not know of its operations: parameters that the endpoints read themselves, and problems."""


def completed(operation: Operation) -> Operation:
    """Return an operation of FastAPI's with what it does not know."""
    parameters, problems = FASTAPI[operation["operationId"]]
    found = {**operation, "security": USER, "parameters": parameters}
    found["responses"] = {**operation["responses"], **responses(*problems)}
    if operation["operationId"] == "createChat":
        content = found["requestBody"]["content"]["application/json"]
        content["examples"] = NEW_CHAT_EXAMPLES
        created = found["responses"]["201"]
        created["links"] = LINKS
        created["content"]["application/json"]["examples"] = {"chat": {"value": A_CHAT}}
    if operation["operationId"] in ("readChat", "changeChat"):
        found["responses"]["200"]["headers"] = ETAG
    return found


SEND: Operation = {
    "operationId": "streamAnswer",
    "tags": ["stream_chat"],
    "summary": "Send a message and stream the answer",
    "description": "With `Last-Event-ID` it is handled as the GET, and the body is not read.",
    "security": USER,
    "parameters": [CHAT, SESSION, *LAST_EVENT],
    "requestBody": body(
        "Message",
        True,
        message={"content": "Hello", "userMessageId": USER_MESSAGE_ID},
        short={"content": "Hello"},
        edit={"content": "Hello, edited", "parentMessageId": None},
        again={"regenerate": {"userMessageId": USER_MESSAGE_ID, "attemptId": MESSAGE_ID}, "model": "gpt-4o-mini"},
        interrupt={"content": "No, wait", "onBusy": "cancel"},
    ),
    "responses": {
        "200": STREAM,
        "204": NOTHING,
        **responses(
            *(*IDENTITY, *BODY, ChatNotFound, MessageNotFound, InvalidContent),
            *(StreamInProgress, IdempotencyConflict, RateLimited),
        ),
    },
}

FOLLOW: Operation = {
    "operationId": "followAnswer",
    "tags": ["stream_chat"],
    "summary": "Resume or watch an answer",
    "description": "Without any parameter it follows this session's active answer, else the newest active one of the "
    "chat. An answer that has ended is replayed whole when it is named.",
    "security": USER,
    "parameters": [CHAT, SESSION, *LAST_EVENT, *WHICH],
    "responses": {"200": STREAM, "204": NOTHING, **responses(*IDENTITY, ChatNotFound, RateLimited)},
}

CANCEL: Operation = {
    "operationId": "cancelAnswer",
    "tags": ["cancel_stream"],
    "summary": "Cancel an answer",
    "description": "Where the user is a header it may be left out: then the session must be the one that is streaming.",
    "security": [*USER, {}],
    "parameters": [CHAT, SESSION],
    "requestBody": body(
        "CancelTarget",
        False,
        mine={},
        answer={"messageId": MESSAGE_ID},
        before_it_arrives={"userMessageId": USER_MESSAGE_ID},
    ),
    "responses": {
        "200": answers(
            "`cancelled` once the partial answer is stored, `cancelling` while it is not, `not_active` when there is "
            "nothing to cancel.",
            {"oneOf": [ref("Cancelled"), ref("Cancelling"), ref("NotActive")]},
            cancelled={
                "success": True,
                "status": "cancelled",
                "messageId": MESSAGE_ID,
                "characters": 7,
                "elapsedMs": 1234,
                "message": "The answer was cancelled; the partial text was saved.",
            },
            cancelling=describe(Cancelling(None)),
            not_active=describe(NotActive()),
        ),
        **responses(*IDENTITY, *BODY, ChatNotFound, RateLimited),
    },
}

_WELL = {"ok": True, "latencyMs": 0.8}
_AWAY = {"ok": False, "latencyMs": None}


def _health(description: str, status: str, redis: Any, mysql: Any) -> dict[str, Any]:
    example = {"status": status, "redis": redis, "mysql": mysql, "activeStreams": 3}
    return answers(description, ref("Health"), **{status: example})


HEALTH: Operation = {
    "operationId": "health",
    "tags": ["health"],
    "summary": "How the stores are",
    "description": "Probed at most once a second. No identity needed, nothing about anyone in it.",
    "security": [],
    "responses": {
        **responses(),
        "200": _health("MySQL answers; `degraded` when Redis does not.", "ok", _WELL, _WELL),
        "503": _health("MySQL does not answer.", "degraded", _WELL, _AWAY),
    },
}

UI_SESSION = parameter(
    "X-Session-Id", "header", NAME, "One device or tab of the user; left out, one for each user and chat."
)
UI_STREAM = {
    "description": "The answer as an AI SDK UI message stream: JSON in `data:` lines, then `[DONE]`. The ids of "
    "events are as on the chat's own stream.",
    "headers": {"x-vercel-ai-ui-message-stream": {"schema": {"const": "v1"}}},
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "examples": {
                "text": {
                    "value": 'data: {"type":"text-start","id":"text-2"}\n\n'
                    'data: {"type":"text-delta","id":"text-2","delta":"Hello"}\n'
                    f"id: {MESSAGE_ID}:2\n\n"
                }
            },
        }
    },
}

UI_SEND: Operation = {
    "operationId": "uiSendMessage",
    "tags": ["stream_chat"],
    "summary": "Send a message as the AI SDK's useChat does",
    "description": "Only the newest message is read; the history is the chat's own. `id` is a chat of this user, or a "
    "name of the client's own for one, which the first message makes. A message that is sent again under its id is "
    "answered once.",
    "security": USER,
    "parameters": [UI_SESSION],
    "requestBody": body(
        "UiMessages",
        True,
        message={
            "id": "xK3fQ9aLmN0pRsTu",
            "messages": [{"id": "m-1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
            "trigger": "submit-message",
        },
    ),
    "responses": {
        "200": UI_STREAM,
        **responses(
            *(*IDENTITY, *BODY, ChatNotFound, MessageNotFound, InvalidContent, UnsupportedContent),
            *(StreamInProgress, IdempotencyConflict, RateLimited),
        ),
    },
}

UI_RESUME: Operation = {
    "operationId": "uiResume",
    "tags": ["stream_chat"],
    "summary": "Resume an answer as the AI SDK's useChat does",
    "description": "The running answer from its start, or after the last event that is named.",
    "security": USER,
    "parameters": [
        parameter("id", "path", {"type": "string", "minLength": 1}, "The chat, or the client's name for it."),
        UI_SESSION,
        *LAST_EVENT,
    ],
    "responses": {"200": UI_STREAM, "204": NOTHING, **responses(*IDENTITY, ChatNotFound, RateLimited)},
}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/api/chat/{chatId}/stream"): SEND,
    ("GET", "/api/chat/{chatId}/stream"): FOLLOW,
    ("POST", "/api/ui/chat"): UI_SEND,
    ("GET", "/api/ui/chat/{id}/stream"): UI_RESUME,
    ("POST", "/api/chat/{chatId}/cancel"): CANCEL,
    ("GET", "/health"): HEALTH,
}
"""By method and path; those of functions on FastAPI describe themselves."""
