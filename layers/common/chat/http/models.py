"""What create_chat and manage_chats take and answer, as pydantic models: OpenAPI comes from them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MAX_TITLE_CHARS = 200
MAX_COMMENT_CHARS = 2000
DEFAULT_CONTENT_CHARS = 32_000


class Model(BaseModel):
    """Names are camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, protected_namespaces=())


class NewChat(Model):
    """What a chat begins with."""

    title: Annotated[
        str | None,
        Field(max_length=MAX_TITLE_CHARS, description="Control characters become spaces, and the ends are trimmed."),
    ] = None
    system_prompt: Annotated[str | None, Field(max_length=DEFAULT_CONTENT_CHARS)] = None


class ChatCreated(Model):
    """A chat that was made."""

    chat_id: Id
    title: str | None
    created_at: Moment


class Chat(Model):
    """A chat by itself."""

    chat_id: Id
    title: str | None
    system_prompt: str | None
    model: str | None = Field(description="The model that was chosen for it; null for the default.")
    created_at: Moment
    updated_at: Moment = Field(description="When the newest message was sent.")
    active_message_ids: list[Id] = Field(description="Answers that are being generated.")


class ListedChat(Model):
    """A chat in the list."""

    chat_id: Id
    title: str | None
    model: str | None
    created_at: Moment
    updated_at: Moment
    active_message_ids: list[Id]
    preview: str = Field(description="The beginning of the newest message.")
    snippet: str | None = Field(default=None, description="Where a search found its words; only with `q`.")


class ChatPage(Model):
    """A page of chats."""

    chats: list[ListedChat]
    next_cursor: str | None


class Source(Model):
    """A page that an answer names."""

    title: str
    url: str


class Failure(Model):
    """Why an answer did not complete."""

    code: str
    message: str
    retryable: bool


class Usage(Model):
    """Tokens of an answer."""

    input_tokens: int
    output_tokens: int
    estimated: bool
    cached_tokens: int | None = Field(default=None, description="Of the input, from the provider's cache.")
    reasoning_tokens: int | None = Field(default=None, description="Of the output, spent on reasoning.")


class Feedback(Model):
    """What the user thinks of an answer."""

    rating: Literal["up", "down"]
    comment: Annotated[str | None, Field(max_length=MAX_COMMENT_CHARS)] = None


class _Message(Model):
    parent_id: Id | None
    content: str
    reasoning: str | None
    sources: list[Source]
    status: Literal["streaming", "completed", "cancelled", "failed", "timeout", "interrupted"]
    finish_reason: str | None
    failure: Failure | None
    model: str | None
    usage: Usage | None
    created_at: Moment
    finished_at: Moment | None
    feedback: Feedback | None


class UserMessage(_Message):
    """A message of the user."""

    user_message_id: Id
    role: Literal["user"]


class AnswerMessage(_Message):
    """An answer."""

    message_id: Id
    role: Literal["assistant"]
    truncated: bool = Field(default=False, description="Only where the end of the text could not be stored.")


class MessagePage(Model):
    """A page of messages, oldest first."""

    messages: list[UserMessage | AnswerMessage]
    next_cursor: str | None


class ChatChange(Model):
    """What is left out stays; null clears."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str | None, Field(max_length=MAX_TITLE_CHARS)] = None
    system_prompt: Annotated[str | None, Field(max_length=DEFAULT_CONTENT_CHARS)] = None
    model: Annotated[str | None, Field(description="One of `GET /api/models`.")] = None


class Deleted(Model):
    """How many chats were deleted, and how many are left."""

    deleted: int
    remaining: int


class AvailableModel(Model):
    """A model that may be chosen."""

    id: str
    label: str
    default: bool


class Models(Model):
    """The models that may be chosen."""

    models: list[AvailableModel]
