"""The events of a stream: schemas of their data, of their frames, and an example made by the code that makes them."""

from __future__ import annotations

from typing import Any

from chat.domain.answer import Answer
from chat.domain.errors import FailureCode
from chat.domain.events import EventName
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage
from chat.http.sse import encode_events
from openapi.schemas import EVENT_ID, NAME, UUID, Schema, record, ref

_COUNT: Schema = {"type": "integer", "minimum": 0}

EVENTS: dict[str, Schema] = {
    "StartEvent": {
        **record(chatId=UUID, messageId=UUID, userMessageId=UUID, sessionId=NAME, model={"type": "string"}),
        "description": "Always first. Begin afresh: forget what you had of this answer.",
    },
    "DeltaEvent": {
        **record(delta={"type": "string", "minLength": 1}),
        "description": "Some text. Joined, in order, they are the answer; a character is never split.",
    },
    "ReasoningEvent": {
        **record(delta={"type": "string", "minLength": 1}),
        "description": "Some of the model's reasoning, where it is sent apart.",
    },
    "SourcesEvent": {
        **record(
            sources={
                "type": "array",
                "minItems": 1,
                "items": record(title={"type": "string"}, url={"type": "string"}),
            }
        ),
        "description": "Sources that were not named before in this answer.",
    },
    "TitleEvent": {
        **record(title={"type": "string", "maxLength": 80}),
        "description": "The chat has got a title by the AI (`CHAT_TITLES=ai`). Comes at most once, in a chat's first "
        "answer; a title that is made only after `done` is stored and not told.",
    },
    "FailureEvent": {
        **record(
            code={"enum": [code.value for code in FailureCode]},
            message={"type": "string"},
            retryable={"type": "boolean", "description": "whether sending the message again may help"},
        ),
        "description": "Directly before `done` when the status is `failed`, `timeout` or `interrupted`.",
    },
    "DoneEvent": {
        **record(
            status={"enum": [status.value for status in Status if status is not Status.STREAMING]},
            finishReason={"type": ["string", "null"], "description": "`stop`, `length`, ...; null unless completed"},
            messageId=UUID,
            usage=record(inputTokens=_COUNT, outputTokens=_COUNT, estimated={"type": "boolean"}),
            characters={**_COUNT, "description": "code points of the joined deltas"},
        ),
        "description": "Always last, exactly once. The status and the text are stored by now, unless `saved` is false "
        "or `truncated` is true.",
    },
}
EVENTS["DoneEvent"]["properties"]["usage"]["properties"] |= {
    "cachedTokens": {**_COUNT, "description": "of the input, from the provider's cache; only where it says so"},
    "reasoningTokens": {**_COUNT, "description": "of the output, spent on reasoning; only where the provider says so"},
}
EVENTS["DoneEvent"]["properties"]["saved"] = {"const": False, "description": "only where the end could not be stored"}
EVENTS["DoneEvent"]["properties"]["truncated"] = {
    "const": True,
    "description": "only where the store did not take all of it: what is stored is the beginning of the text",
}
EVENTS["DoneEvent"]["properties"]["dropped"] = {
    **record(events=_COUNT),
    "description": "only where events of the AI held something that could be neither understood nor passed on; readers "
    "that come after the end are not told",
}

NAMES = {
    "start": "StartEvent",
    EventName.DELTA: "DeltaEvent",
    "reasoning": "ReasoningEvent",
    "sources": "SourcesEvent",
    "title": "TitleEvent",
    "failure": "FailureEvent",
    "done": "DoneEvent",
}
"""The schema of each event's data, by the event's name; a delta has none."""


def item_schema() -> Schema:
    """Return the schema of one event as an SSE parser delivers it, which calls one without a name `message`.

    OpenAPI 3.1 has no word for the items of a stream; this is the `itemSchema` of 3.2, as an extension.

    Source: OpenAPI specification 3.2, "Sequential media types".
    """
    return {"oneOf": [_item(name, schema) for name, schema in NAMES.items()]}


def _item(name: str, schema: str) -> Schema:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref(schema)}
    properties = {"id": EVENT_ID, "event": {"const": name or "message"}, "data": data}
    return {"type": "object", "properties": properties, "required": ["event", "data"] if name else ["data"]}


CHAT_ID = "01a2078f-3b5e-7c1d-9a42-6f1d2c3b4a59"
MESSAGE_ID = "01a2078f-4c60-7d2e-8b53-7a2e3d4c5b6a"
USER_MESSAGE_ID = "7d9f2c1e-5b3a-4e8d-9c6f-1a2b3c4d5e6f"


def _answer() -> Answer:
    answer = Answer(AnswerIds(CHAT_ID, MESSAGE_ID, USER_MESSAGE_ID, "phone-1", "gpt-4o-mini"))
    answer.begin()
    return answer


def _stream(answer: Answer) -> str:
    return encode_events(answer.events, MESSAGE_ID).decode()


def examples() -> dict[str, Any]:
    """Return streams as the code writes them."""
    whole = _answer()
    whole.append_text("Hello, ")
    whole.append_text("world.")
    whole.add_sources([Source("Greetings", "https://example.com/greetings")])
    whole.end(Outcome(Status.COMPLETED, "stop"), Usage(12, 5))
    broken = _answer()
    broken.append_text("Hel")
    broken.end(Outcome(Status.FAILED, None, FailureCode.AI_INCOMPLETE), Usage(12, 1, estimated=True))
    cancelled = _answer()
    cancelled.append_text("Hello, ")
    cancelled.end(Outcome(Status.CANCELLED), Usage(12, 2, estimated=True))
    named = {"completed": whole, "failed": broken, "cancelled": cancelled}
    return {name: {"value": _stream(answer)} for name, answer in named.items()}
