"""The routes that the AI SDK's `useChat` speaks to, as `DefaultChatTransport({ api: "/api/ui/chat" })` calls them.

Of what a client sends only its newest message is believed; the history is MySQL's.
Source: ai-sdk.dev, "Transport" and "Chatbot Resume Streams"; `DefaultChatTransport` of npm's `ai` 5, 6 and 7.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat.application.follow_answer import FollowAnswer, Following, FollowRequest
from chat.application.named_chats import NamedChats
from chat.application.run_answer import AnswerRun
from chat.application.start_answer import SendMessage, StartAnswer
from chat.domain.errors import ChatNotFound, InvalidContent, MessageNotFound, UnsupportedContent
from chat.domain.model import ROOT, StoredAnswer, canonical_uuid
from chat.domain.text import is_blank
from chat.http.auth.identity import identify_user
from chat.http.errors import InvalidRequest
from chat.http.event_stream import EventStreamResponse
from chat.http.request_fields import (
    SESSION_ID,
    Body,
    last_event_id,
    read_json,
    text_complaint,
)
from chat.http.routes import FOLLOWER_MARGIN_SECONDS, HttpDeps, follow_request, route, seconds_left
from chat.http.ui_messages import HEADERS, UiMessageEncoder

MAX_BODY_BYTES = 1 << 20
"""`DefaultChatTransport` sends all messages of a chat each time, though only the newest is read."""
MAX_NAME_CHARS = 200
SUBMIT, REGENERATE = "submit-message", "regenerate-message"
_PATH = "/api/ui/chat"


def ui_routes(deps: HttpDeps, names: NamedChats, start: StartAnswer, follow: FollowAnswer) -> list[Route]:
    """Return the routes below `/api/ui/chat`."""
    settings = deps.settings

    async def send(request: Request) -> Response:
        user_id = await identify_user(request, deps.tokens)
        body = await read_json(request, max(settings.max_body_bytes, MAX_BODY_BYTES))
        name = _text(body, "id")
        sent = _newest_message(body)
        content = _content(sent, settings.max_content_chars)
        named, replaced = _text(sent, "id"), _replaced(body)
        is_again = body.get("trigger") == REGENERATE
        chat_id = await (names.find(user_id, name) if is_again else names.find_or_create(user_id, name))
        if chat_id is None:
            raise ChatNotFound
        message = SendMessage(
            chat_id=chat_id,
            user_id=user_id,
            session_id=_session(request, chat_id),
            content=content,
            user_message_id=message_id(chat_id, named),
            seconds_left=seconds_left(request),
        )
        if is_again:
            attempt_id = message_id(chat_id, replaced) if replaced else None
            found = await _start_again(start, replace(message, content=None, attempt_id=attempt_id), named)
        else:
            found = await start(message if replaced is None else _edited(message, body, named))
        if isinstance(found, StoredAnswer):
            return watch(request, await follow.from_stored(found, user_id, _session(request, chat_id)))
        encode = UiMessageEncoder(found.answer.identity.message_id)
        return EventStreamResponse(found, encode, settings.heartbeat_seconds, must_finish=True, headers=HEADERS)

    async def resume(request: Request) -> Response:
        user_id = await identify_user(request, deps.tokens)
        session_id, last = SESSION_ID.read(request), last_event_id(request)
        chat_id = await names.find(user_id, request.path_params["id"])
        if chat_id is None:
            return Response(status_code=204)
        wanted = FollowRequest() if last is None else follow_request(request, last)
        following = await follow(chat_id, user_id, session_id or _own_session(chat_id), wanted)
        return Response(status_code=204) if following is None else watch(request, following)

    def watch(request: Request, following: Following) -> Response:
        seconds = max(seconds_left(request) - FOLLOWER_MARGIN_SECONDS, FOLLOWER_MARGIN_SECONDS)
        encode = UiMessageEncoder(following.message_id)
        return EventStreamResponse(following, encode, settings.heartbeat_seconds, False, seconds, HEADERS)

    return [route(_PATH, send, "POST"), route(_PATH + "/{id}/stream", resume, "GET")]


async def _start_again(start: StartAnswer, wanted: SendMessage, named: str) -> AnswerRun | StoredAnswer:
    """Start another answer to a message, known by the client's id for it or, once it was listed, by ours."""
    try:
        return await start(wanted)
    except MessageNotFound:
        listed = canonical_uuid(named)
        if listed is None:
            raise
        return await start(replace(wanted, user_message_id=listed))


def _replaced(body: Body) -> str | None:
    """Return the message that is to be replaced: the user's that is edited, or the answer that is generated again."""
    if body.get("trigger", SUBMIT) not in (SUBMIT, REGENERATE):
        raise InvalidRequest(f"The field trigger must be {SUBMIT} or {REGENERATE}.")
    return None if body.get("messageId") is None else _text(body, "messageId")


def _edited(message: SendMessage, body: Body, named: str) -> SendMessage:
    """Return the message as one that begins a branch: it has the id of the one that is edited, but another text."""
    edited_id = message_id(message.chat_id, f"{named}\n{message.content}")
    return replace(message, user_message_id=edited_id, parent_id=_answer_before(body))


def _answer_before(body: Body) -> str:
    """Return the answer before the newest message, by the id that its `start` had; ROOT where there is none."""
    messages = body.get("messages")
    for message in reversed(messages[:-1] if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "assistant":
            return canonical_uuid(str(message.get("id"))) or ROOT
    return ROOT


def message_id(chat_id: str, name: str) -> str:
    """Return the id of the message that the client calls `name`: the same for each retry, another in each chat."""
    return str(uuid.uuid5(uuid.UUID(chat_id), name))


def _session(request: Request, chat_id: str) -> str:
    """Return the session, which may be left out here: one for each user and chat then."""
    return SESSION_ID.read(request) or _own_session(chat_id)


def _own_session(chat_id: str) -> str:
    return f"ui-{chat_id}"


def _text(found: Body, name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value or text_complaint(value, MAX_NAME_CHARS):
        raise InvalidRequest(f"The field {name} must be a string of 1 to {MAX_NAME_CHARS} characters.")
    return value


def _newest_message(body: Body) -> dict[str, Any]:
    messages = body.get("messages")
    newest = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(newest, dict) or newest.get("role") != "user":
        raise InvalidRequest("The field messages must be a list that ends with a message of the user.")
    return newest


def _content(message: dict[str, Any], max_chars: int) -> str:
    """Return the text of a message.

    Raises:
        InvalidRequest: it has no list of parts.
        UnsupportedContent: a part is something else than text.
        InvalidContent: the text cannot be accepted.
    """
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise InvalidRequest("The message must have a list of parts.")
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise UnsupportedContent("The message holds something else than text: files and tools are not supported.")
        if not isinstance(part.get("text"), str):
            raise InvalidRequest("The field text of a part must be a string.")
        texts.append(part["text"])
    text = "".join(texts)
    if is_blank(text):
        raise InvalidContent("The message is empty.")
    if complaint := text_complaint(text, max_chars):
        raise InvalidContent(f"The message {complaint}.")
    return text
