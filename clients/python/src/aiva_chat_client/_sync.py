"""The client for synchronous code. Made of `_async.py`: do not edit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import httpx
from httpx_sse import EventSource

from aiva_chat_client._events import Event
from aiva_chat_client._protocol import (
    BROKEN,
    TIMEOUT,
    ChatServiceError,
    Function,
    OnBusy,
    Progress,
    Request,
    functions,
    given,
    message,
)


class Answer(Progress):
    """One answer, as an iterator of its events up to `Done`, over as many connections as that takes.

    Iterate over it once. To stop in the midst, `close` it; the answer itself goes on until it is cancelled.

    Raises, when iterated over:
        ChatServiceError: the service refuses.
        StreamBroken: it could not be had to its end.
    """

    def __init__(self, client: ChatClient, chat_id: str, request: Request) -> None:
        super().__init__()
        self._client, self._request, self._events = client, request, self._run()
        self.chat_id = chat_id
        self.user_message_id: str | None = (request.body or {}).get("userMessageId")

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def read(self) -> str:
        """Take everything and return the text; what the end was is in `done`."""
        for _ in self:
            pass
        return self.text

    def cancel(self) -> Mapping[str, Any]:
        """End the answer, on all devices; also before it has begun. See `ChatClient.cancel`."""
        user_message_id = None if self.message_id else self.user_message_id
        return self._client.cancel(self.chat_id, self.message_id, user_message_id)

    def close(self) -> None:
        """Leave the stream."""
        self._events.close()

    def _run(self) -> Generator[Event, None, None]:
        while self.done is None:
            error: Exception | None = None
            try:
                with closing(self._connect()) as events:
                    for event in events:
                        yield event
            except BROKEN as broken:
                error = broken
            if self.done is None and error is None and self.last_event_id == "" and self._request.method == "GET":
                return  # there is nothing to follow
            if self.done is None:
                time.sleep(self.pause(error))

    def _connect(self) -> Generator[Event, None, None]:
        response = self._client.send(self._request, stream=True, **{"last-event-id": self.last_event_id})
        try:
            if response.status_code == httpx.codes.NO_CONTENT:
                return
            if not response.is_success:
                response.read()
                self.refused(response)
                raise httpx.RemoteProtocolError(f"HTTP {response.status_code}")
            for event in EventSource(response).iter_sse():
                yield self.take(event)
                if self.done is not None:
                    return
        finally:
            response.close()


class ChatClient:
    """Talks to the service; use it as a context manager, or close it.

    `urls` is one address (`make run`, a front door) or that of each function: `create`, `stream`, `cancel`, `manage`.
    Who asks is said by `headers` (`X-User-Id`) or `auth` (`BearerAuth`, or a signature of AWS). A session is a device:
    it has one running answer in a chat.
    """

    def __init__(
        self,
        urls: str | Mapping[Function, str] = "http://localhost:8000",
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        session_id: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.session_id = session_id or str(uuid.uuid4())
        self._urls = functions(urls)
        own = {"x-session-id": self.session_id, **(headers or {})}
        self._http = httpx.Client(headers=own, auth=auth, timeout=TIMEOUT, transport=transport)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, request: Request, *, stream: bool = False, **headers: str) -> httpx.Response:
        """Send any request and return the response, whatever it is; for what has no method here.

        Raises:
            httpx.TransportError: there is none.
        """
        return self._http.send(request.build(self._http, self._urls, headers), stream=stream)

    def _ask(self, request: Request) -> Any:
        response = self.send(request)
        if not response.is_success:
            raise ChatServiceError(response)
        return response.json() if response.content else None

    def create_chat(
        self, title: str | None = None, system_prompt: str | None = None, idempotency_key: str | None = None
    ) -> str:
        """Make a chat and return its id; with the same key the same chat."""
        key = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        body = given(title=title, systemPrompt=system_prompt)
        made = self._ask(Request("create", "POST", "/api/chat/create", body, headers=key))
        return str(made["chatId"])

    def ask(
        self,
        chat_id: str,
        content: str,
        *,
        user_message_id: str | None = None,
        parent_id: str | None = None,
        model: str | None = None,
        on_busy: OnBusy | None = None,
    ) -> Answer:
        """Send a message and return its answer, which begins when it is iterated over.

        `parent_id` is the answer that the message follows (`ROOT` for none, None for the end of the active branch): a
        message is edited by sending it with the parent of the old one. With `on_busy="cancel"` the session's running
        answer is cancelled first.
        """
        body = message(content, user_message_id, parent_id, model, on_busy)
        return Answer(self, chat_id, Request("stream", "POST", f"/api/chat/{chat_id}/stream", body))

    def regenerate(
        self, chat_id: str, user_message_id: str, *, attempt_id: str | None = None, model: str | None = None
    ) -> Answer:
        """Return another answer to a message."""
        attempt = {"userMessageId": user_message_id, "attemptId": attempt_id or str(uuid.uuid4())}
        body = given(regenerate=attempt, model=model)
        return Answer(self, chat_id, Request("stream", "POST", f"/api/chat/{chat_id}/stream", body))

    def watch(self, chat_id: str, message_id: str | None = None) -> Answer:
        """Return an answer that is there, or the chat's running one; without any there are no events."""
        params = {"messageId": message_id}
        return Answer(self, chat_id, Request("stream", "GET", f"/api/chat/{chat_id}/stream", params=params))

    def cancel(
        self, chat_id: str, message_id: str | None = None, user_message_id: str | None = None
    ) -> Mapping[str, Any]:
        """End an answer, or with no id the session's running one, and return what the service says of it."""
        body = given(messageId=message_id, userMessageId=user_message_id)
        found: Mapping[str, Any] = self._ask(Request("cancel", "POST", f"/api/chat/{chat_id}/cancel", body))
        return found

    def chats(self, q: str | None = None, limit: int = 30) -> Iterator[Mapping[str, Any]]:
        """Yield the chats, newest activity first, or those that hold all words of `q`; asks for `limit` at once."""
        return self._pages("/api/chats", "chats", {"q": q, "limit": limit})

    def messages(self, chat_id: str, leaf: str | None = None, limit: int = 30) -> Iterator[Mapping[str, Any]]:
        """Yield the messages of the active branch, or of the one that ends with `leaf`, newest first."""
        params = {"leaf": leaf, "limit": limit}
        return self._pages(f"/api/chat/{chat_id}/messages", "messages", params, newest_last=True)

    def _pages(
        self, path: str, name: str, params: Mapping[str, Any], newest_last: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._ask(Request("manage", "GET", path, params={**params, "cursor": cursor}))
            for one in reversed(page[name]) if newest_last else page[name]:
                yield one
            if (cursor := page["nextCursor"]) is None:
                return

    def chat(self, chat_id: str) -> Mapping[str, Any]:
        """Return a chat."""
        found: Mapping[str, Any] = self._ask(Request("manage", "GET", f"/api/chat/{chat_id}"))
        return found

    def update_chat(self, chat_id: str, **changes: str | None) -> Mapping[str, Any]:
        """Change `title`, `systemPrompt` or `model` (None clears it), and return the chat."""
        found: Mapping[str, Any] = self._ask(Request("manage", "PATCH", f"/api/chat/{chat_id}", changes))
        return found

    def delete_chat(self, chat_id: str) -> None:
        """Delete a chat for good; what runs in it is cancelled."""
        self._ask(Request("manage", "DELETE", f"/api/chat/{chat_id}"))

    def delete_all_chats(self) -> int:
        """Delete all chats of the user for good, and return how many there were."""
        deleted: int = 0
        while True:
            found = self._ask(Request("manage", "DELETE", "/api/chats"))
            deleted += int(found["deleted"])
            if not found["remaining"]:
                return deleted

    def rate(self, chat_id: str, message_id: str, rating: str | None, comment: str | None = None) -> None:
        """Say what the user thinks of an answer, `up` or `down`; None takes it back."""
        path = f"/api/chat/{chat_id}/messages/{message_id}/feedback"
        body = given(rating=rating, comment=comment) if rating else None
        self._ask(Request("manage", "PUT" if rating else "DELETE", path, body))

    def models(self) -> list[Mapping[str, Any]]:
        """Return the models that may be chosen."""
        found = self._ask(Request("manage", "GET", "/api/models"))
        return list(found["models"])
