"""The routes of create_chat and manage_chats: requests in, use cases, models out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response

from chat.application.create_chat import CreateChat
from chat.application.manage_chats import ManageChats
from chat.application.ports import ChatChange, MessageView
from chat.domain.answer import default_error_code
from chat.domain.errors import FAILURES, FailureCode
from chat.domain.listing import ChatDetails, ChatSummary, Feedback, InvalidCursor, StoredMessage
from chat.domain.model import Usage, is_name
from chat.domain.title import clean_title
from chat.http import models
from chat.http.auth.identity import identify_user
from chat.http.errors import InvalidRequest
from chat.http.fastapi_app import json_body, no_content
from chat.http.request_fields import (
    CHAT_ID,
    IDEMPOTENCY_KEY,
    LEAF,
    MESSAGE_ID_IN_PATH,
    Body,
    header,
    model_field,
    query_flag,
    query_number,
    query_text,
    read_json,
    text_field,
)
from chat.http.routes import HttpDeps, rfc3339

DEFAULT_LIMIT, MAX_LIMIT = 30, 100
MIN_QUERY_CHARS, MAX_QUERY_CHARS = 2, 200
MAX_CURSOR_CHARS = 400
FEEDBACK = "/api/chat/{chatId}/messages/{messageId}/feedback"
_CHANGEABLE = {"title", "systemPrompt", "model"}


def add_create_routes(app: FastAPI, deps: HttpDeps, create: CreateChat) -> None:
    """Add the routes of create_chat."""
    settings = deps.settings

    async def create_chat(request: Request) -> models.ChatCreated:
        user_id = await identify_user(request, deps.tokens)
        key = IDEMPOTENCY_KEY.read(request)
        body = await read_json(request, settings.max_body_bytes, may_be_empty=True)
        title = text_field(body, "title", models.MAX_TITLE_CHARS)
        system_prompt = text_field(body, "systemPrompt", settings.max_content_chars)
        chat = await create(user_id, title, system_prompt, key)
        return models.ChatCreated(chat_id=chat.id, title=chat.title, created_at=rfc3339(chat.created_at))

    app.add_api_route(
        "/api/chat/create",
        create_chat,
        methods=["POST"],
        status_code=201,
        operation_id="createChat",
        summary="Create a chat",
        tags=["create_chat"],
        response_description="The chat, new or made before with the same key.",
        openapi_extra=json_body(models.NewChat, is_required=False),
    )


def add_manage_routes(app: FastAPI, deps: HttpDeps, manage: ManageChats) -> None:
    """Add the routes of manage_chats."""
    _add_chat_routes(app, deps, manage)
    _add_message_routes(app, deps, manage)


def _add_chat_routes(app: FastAPI, deps: HttpDeps, manage: ManageChats) -> None:
    settings = deps.settings

    async def list_chats(request: Request) -> models.ChatPage:
        user_id = await identify_user(request, deps.tokens)
        query = query_text(request, "q", MAX_QUERY_CHARS)
        if query is not None and len(query := query.strip()) < MIN_QUERY_CHARS:
            raise InvalidRequest(f"The query parameter q must have at least {MIN_QUERY_CHARS} characters.")
        limit = query_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        with cursors_are_ours():
            found, cursor = await manage.list_chats(user_id, _cursor(request), limit, query)
        return models.ChatPage(chats=[_listed(chat) for chat in found], next_cursor=cursor)

    async def read_chat(request: Request, response: Response) -> models.Chat:
        user_id = await identify_user(request, deps.tokens)
        chat = await manage.read_chat(CHAT_ID.read(request), user_id)
        response.headers["etag"] = etag(chat)
        return _chat(chat)

    async def change_chat(request: Request, response: Response) -> models.Chat:
        user_id = await identify_user(request, deps.tokens)
        chat_id = CHAT_ID.read(request)
        expected = header(request, "If-Match")
        body = await read_json(request, settings.max_body_bytes)
        change = _change(body, settings.max_content_chars, [choice.id for choice in settings.models])
        chat = await manage.change_chat(chat_id, user_id, change, lambda found: is_expected(found, expected))
        response.headers["etag"] = etag(chat)
        return _chat(chat)

    async def delete_chat(request: Request) -> Response:
        user_id = await identify_user(request, deps.tokens)
        await manage.delete_chat(CHAT_ID.read(request), user_id)
        return no_content()

    async def delete_chats(request: Request) -> models.Deleted:
        user_id = await identify_user(request, deps.tokens)
        deleted, remaining = await manage.delete_chats(user_id)
        return models.Deleted(deleted=deleted, remaining=remaining)

    async def list_models(request: Request) -> models.Models:
        await identify_user(request, deps.tokens)
        choices = enumerate(settings.models)
        found = [models.AvailableModel(id=one.id, label=one.label, default=not at) for at, one in choices]
        return models.Models(models=found)

    _add(
        app,
        ("GET", "/api/chats", list_chats, "List and search chats, newest activity first", {}),
        ("DELETE", "/api/chats", delete_chats, "Erase all chats, a part at a time", {}),
        ("GET", "/api/chat/{chatId}", read_chat, "Read a chat", {}),
        ("PATCH", "/api/chat/{chatId}", change_chat, "Change a chat", json_body(models.ChatChange)),
        ("DELETE", "/api/chat/{chatId}", delete_chat, "Delete a chat; what runs in it is cancelled", {}),
        ("GET", "/api/models", list_models, "List the models that may be chosen", {}),
    )


def _add_message_routes(app: FastAPI, deps: HttpDeps, manage: ManageChats) -> None:
    settings = deps.settings

    async def list_messages(request: Request) -> models.MessagePage:
        user_id = await identify_user(request, deps.tokens)
        leaf, is_whole_tree = LEAF.read(request), query_flag(request, "all")
        if leaf and is_whole_tree:
            raise InvalidRequest("Send leaf or all, not both.")
        limit = query_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        view = MessageView(leaf, is_whole_tree)
        chat_id = CHAT_ID.read(request)
        with cursors_are_ours():
            found, cursor = await manage.list_messages(chat_id, user_id, view, _cursor(request), limit)
        return models.MessagePage(messages=[_message(one) for one in found], next_cursor=cursor)

    async def put_feedback(request: Request) -> models.Feedback:
        user_id = await identify_user(request, deps.tokens)
        chat_id, message_id = CHAT_ID.read(request), MESSAGE_ID_IN_PATH.read(request)
        body = await read_json(request, settings.max_body_bytes)
        rating = body.get("rating")
        if rating not in ("up", "down"):
            raise InvalidRequest("The field rating must be up or down.")
        feedback = Feedback(rating, text_field(body, "comment", models.MAX_COMMENT_CHARS))
        await manage.put_feedback(chat_id, user_id, message_id, feedback)
        return models.Feedback(rating=feedback.rating, comment=feedback.comment)

    async def delete_feedback(request: Request) -> Response:
        user_id = await identify_user(request, deps.tokens)
        await manage.delete_feedback(CHAT_ID.read(request), user_id, MESSAGE_ID_IN_PATH.read(request))
        return no_content()

    _add(
        app,
        ("GET", "/api/chat/{chatId}/messages", list_messages, "Read messages, a page at a time, back in time", {}),
        ("PUT", FEEDBACK, put_feedback, "Say what one thinks of an answer", json_body(models.Feedback)),
        ("DELETE", FEEDBACK, delete_feedback, "Take it back", {}),
    )


def _add(app: FastAPI, *routes: tuple[str, str, Callable[..., Any], str, dict[str, Any]]) -> None:
    """Add routes: method, path, endpoint, what it does, what OpenAPI is told of its body."""
    for method, path, endpoint, summary, body in routes:
        is_empty = endpoint.__annotations__["return"] == "Response"
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=204 if is_empty else 200,
            operation_id=to_camel(endpoint.__name__),
            summary=summary,
            tags=["manage_chats"],
            response_model_exclude_unset=True,
            openapi_extra=body or None,
        )
        if method == "GET":
            app.add_api_route(
                path, endpoint, methods=["HEAD"], include_in_schema=False, response_model_exclude_unset=True
            )


def etag(chat: ChatDetails) -> str:
    """Return a strong validator of what PATCH changes. Source: RFC 9110, section 8.8.3."""
    data = json.dumps([chat.id, chat.title, chat.system_prompt, chat.model]).encode()
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def is_expected(chat: ChatDetails, if_match: str | None) -> bool:
    """Tell whether `If-Match` allows a change. Source: RFC 9110, section 13.1.1."""
    if if_match is None or if_match.strip() == "*":
        return True
    return etag(chat) in [tag.strip() for tag in if_match.split(",")]


@contextmanager
def cursors_are_ours() -> Iterator[None]:
    """Turn a cursor that no list has given into the client's mistake."""
    try:
        yield
    except InvalidCursor:
        detail = "The query parameter cursor is none that this list has given: begin without one."
        raise InvalidRequest(detail) from None


def _cursor(request: Request) -> str | None:
    return query_text(request, "cursor", MAX_CURSOR_CHARS)


def _change(body: Body, max_chars: int, names: Sequence[str]) -> ChatChange:
    """Return what a body changes.

    Raises:
        InvalidRequest: it has another field, or one cannot be accepted.
    """
    if unknown := sorted(set(body) - _CHANGEABLE):
        which = f"the field {unknown[0]}" if is_name(unknown[0]) else "a field"
        raise InvalidRequest(f"The body has {which}, which cannot be changed.")
    return ChatChange(
        title=(clean_title(text_field(body, "title", models.MAX_TITLE_CHARS)),) if "title" in body else None,
        system_prompt=(text_field(body, "systemPrompt", max_chars) or None,) if "systemPrompt" in body else None,
        model=(model_field(body, names),) if "model" in body else None,
    )


def _listed(chat: ChatSummary) -> models.ListedChat:
    found = models.ListedChat(
        chat_id=chat.id,
        title=chat.title,
        model=chat.model,
        created_at=rfc3339(chat.created_at),
        updated_at=rfc3339(chat.updated_at),
        active_message_ids=list(chat.active_message_ids),
        preview=chat.preview,
    )
    if chat.snippet is not None:
        found.snippet = chat.snippet
    return found


def _chat(chat: ChatDetails) -> models.Chat:
    return models.Chat(
        chat_id=chat.id,
        title=chat.title,
        system_prompt=chat.system_prompt,
        model=chat.model,
        created_at=rfc3339(chat.created_at),
        updated_at=rfc3339(chat.updated_at),
        active_message_ids=list(chat.active_message_ids),
    )


def _message(message: StoredMessage) -> models.UserMessage | models.AnswerMessage:
    shared: dict[str, Any] = {
        "parent_id": message.parent_id,
        "content": message.content,
        "status": message.status.value,
        "created_at": rfc3339(message.created_at),
    }
    if message.role == "user":
        shared |= dict.fromkeys(("reasoning", "finish_reason", "failure", "model", "usage", "finished_at", "feedback"))
        return models.UserMessage(user_message_id=message.id, role="user", sources=[], **shared)
    feedback = message.feedback
    found = models.AnswerMessage(
        message_id=message.id,
        role="assistant",
        reasoning=message.reasoning or None,
        sources=[models.Source(title=source.title, url=source.url) for source in message.sources],
        finish_reason=message.finish_reason,
        failure=_failure(message),
        model=message.model,
        usage=None if message.usage is None else _usage(message.usage),
        finished_at=None if message.finished_at is None else rfc3339(message.finished_at),
        feedback=None if feedback is None else models.Feedback(rating=feedback.rating, comment=feedback.comment),
        **shared,
    )
    if message.truncated:
        found.truncated = True
    return found


def _failure(message: StoredMessage) -> models.Failure | None:
    code = message.error_code or default_error_code(message.status)
    if code is None:
        return None
    sentence, retryable = FAILURES[FailureCode(code)]
    return models.Failure(code=code, message=sentence, retryable=retryable)


def _usage(usage: Usage) -> models.Usage:
    found = models.Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, estimated=usage.estimated)
    if usage.cached_tokens is not None:
        found.cached_tokens = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        found.reasoning_tokens = usage.reasoning_tokens
    return found
