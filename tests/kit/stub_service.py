"""The service's contract on one port, scripted: what the AI says, and what the network does to each connection.

For tests of clients (the page among them) that need faults at exact places. Events are made and framed by the product's
own code; stores, functions and Lambda are not here.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from chat.domain.answer import Answer
from chat.domain.errors import FailureCode
from chat.domain.events import Event
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage, new_id
from chat.http.sse import encode_events

PAGE = Path(__file__).parents[2] / "local" / "page"
USAGE = Usage(12, 34)
NOW = "2026-01-01T00:00:00.000Z"


class Reasoning(str):
    """The model thinks."""


class Sources(tuple[Source, ...]):
    """The model cites."""


class Finish(str):
    """The model says why it is finished."""


Step = str | Reasoning | Sources | Finish | FailureCode | asyncio.Event
"""Text; something special; how it fails; or a gate that the test opens. Without a failure an answer completes."""


class Refuse(NamedTuple):
    """A connection gets a problem document."""

    status: int
    code: str
    extras: Mapping[str, object] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})


class Cut(NamedTuple):
    """A connection breaks off after so many events and so many bytes of the next, or before there is a response."""

    events: int | None = None
    bytes: int = 0
    ends_properly: bool = False
    """The response is complete for HTTP, only the answer is not."""
    when: asyncio.Event | None = None
    """Waits for this first: what a broken connection had delivered may else never reach the client's code."""
    is_replay: bool = False
    """The log is gone: all of it comes from MySQL, without ids but for a start that begins afresh."""


@dataclass
class Hold:
    """A connection waits before it is looked at."""

    until: asyncio.Event = field(default_factory=asyncio.Event)


Fault = Refuse | Cut | Hold | None


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")


@dataclass
class Generation:
    """One answer while it is generated, for all who follow it."""

    answer: Answer
    content: str
    parent_id: str | None = None
    attempt_id: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def identity(self) -> AnswerIds:
        return self.answer.identity

    @property
    def is_active(self) -> bool:
        return self.answer.outcome is None

    async def play(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, FailureCode):
                self.end(Outcome(Status.FAILED, None, step))
            elif isinstance(step, Finish):
                self.end(Outcome(Status.COMPLETED, str(step)))
            elif self.is_active:
                self._say(step)
            self.tell()
        self.end(Outcome(Status.COMPLETED, "stop"))

    def _say(self, step: str | Reasoning | Sources) -> None:
        if isinstance(step, Sources):
            self.answer.add_sources(step)
        elif isinstance(step, Reasoning):
            self.answer.append_reasoning(step)
        else:
            self.answer.append_text(step)

    def end(self, ending: Outcome) -> None:
        if self.is_active:
            self.answer.end(ending, USAGE)
            self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class StubService:
    """Serves on 127.0.0.1 while it is entered; `url` says where."""

    def __init__(self) -> None:
        self.scripts: deque[Sequence[Step]] = deque()
        """One for each generation to come; without one the answer is an echo."""
        self.faults: deque[Fault] = deque()
        """One for each connection to `/stream` to come; None lets it be."""
        self.cancel_faults: deque[Refuse | Hold | None] = deque()
        """One for each cancel to come; a `Hold` holds back what is said of it."""
        self.requests: list[Request] = []
        self.generations: list[Generation] = []
        self.chats: dict[str, dict[str, object]] = {}
        self.models: list[dict[str, object]] = [{"id": "stub", "default": True}]
        self.feedback: dict[str, dict | None] = {}
        self.page_of_messages = 100
        self.message_faults: deque[Refuse] = deque()
        """One for each request of messages to come."""
        self.refuses_lists = False
        self.page_settings: dict[str, object] = {"model": "stub", "isDemo": False, "auth": "header"}
        self.bytes_per_chunk = 0
        """Splits streams into chunks of so many bytes; 0 leaves them whole."""
        self.retry_ms: int | None = 10
        self._keys: dict[str, str] = {}
        self._intents: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: set[_Response] = set()

    async def __aenter__(self) -> StubService:
        self._server = await asyncio.start_server(self._track, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def sent(self, method: str, path_end: str) -> list[Request]:
        """Return the requests that came so far."""
        return [r for r in self.requests if r.method == method and r.path.endswith(path_end)]

    def cut_all(self) -> None:
        """Break off every stream that is being followed."""
        for response in self._following:
            response.abort()

    # ---- HTTP

    def _track(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer))

    def _spawn(self, work) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            self.requests.append(request)
            await self._answer(request, _Response(writer, self.bytes_per_chunk))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _answer(self, request: Request, response: _Response) -> None:
        route = re.fullmatch(r"/api/chat/([^/]+)(?:/(stream|cancel|messages|messages/([^/]+)/feedback))?", request.path)
        if request.path in self._plain:
            await self._plain[request.path](request, response)
        elif route is None:
            await _serve_page(request.path, response)
        elif route[1] not in self.chats:
            await response.problem(Refuse(404, "chat_not_found"))
        elif route[2] == "cancel":
            await self._cancel(route[1], request, response)
        elif route[2] == "stream":
            await self._stream(route[1], request, response)
        elif route[2] == "messages" and self.message_faults:
            await response.problem(self.message_faults.popleft())
        elif route[2] == "messages":
            await response.json(200, self._messages(route[1], request.query))
        elif route[2]:
            self.feedback[route[3]] = request.json if request.method == "PUT" else None
            await response.json(200, {})
        else:
            await self._chat(route[1], request, response)

    @property
    def _plain(self) -> Mapping[str, Callable[[Request, _Response], Awaitable[None]]]:
        return {
            "/page-settings.json": lambda _, response: response.json(200, self.page_settings),
            "/api/models": lambda _, response: response.json(200, {"models": self.models}),
            "/api/chats": self._chats,
            "/api/chat/create": self._create,
        }

    async def _create(self, request: Request, response: _Response) -> None:
        chat_id = self._keys.setdefault(request.headers.get("idempotency-key", new_id()), new_id())
        self.chats.setdefault(chat_id, {"title": None})
        await response.json(201, {"chatId": chat_id, "title": None, "createdAt": NOW})

    # ---- what manage_chats does

    async def _chats(self, request: Request, response: _Response) -> None:
        if self.refuses_lists:
            return await response.problem(Refuse(503, "storage_unavailable"))
        return await response.json(200, self._list(request.query))

    def _list(self, query: Mapping[str, str]) -> dict:
        listed = [self._described(chat_id) for chat_id in reversed(self.chats)]
        found = [chat for chat in listed if query.get("q", "") in f"{chat['title']} {chat['preview']}"]
        at = int(query.get("cursor", 0))
        return {"chats": found[at : at + 30], "nextCursor": str(at + 30) if len(found) > at + 30 else None}

    def _described(self, chat_id: str) -> dict:
        texts = [generation.content for generation in self.generations if generation.identity.chat_id == chat_id]
        chat = {"chatId": chat_id, "model": None, "createdAt": NOW, "updatedAt": datetime.now(UTC).isoformat()}
        return chat | {"preview": texts[-1] if texts else ""} | self.chats[chat_id]

    async def _chat(self, chat_id: str, request: Request, response: _Response) -> None:
        if request.method == "DELETE":
            del self.chats[chat_id]
            return await response.empty()
        if request.method == "PATCH":
            self.chats[chat_id] |= request.json
        return await response.json(200, self._described(chat_id))

    def _messages(self, chat_id: str, query: Mapping[str, str]) -> dict:
        told: dict[str, dict] = {}
        for generation in self.generations:
            ids = generation.identity
            if ids.chat_id != chat_id:
                continue
            question = {"userMessageId": ids.user_message_id, "role": "user", "content": generation.content}
            told.setdefault(ids.user_message_id, question | {"parentId": generation.parent_id})
            told[ids.message_id] = self._told(generation)
        end = int(query.get("cursor") or len(told))
        start = max(0, end - self.page_of_messages)
        return {"messages": list(told.values())[start:end], "nextCursor": str(start) if start else None}

    def _told(self, generation: Generation) -> dict:
        answer, ids = generation.answer, generation.identity
        outcome = answer.outcome
        failure = outcome and outcome.error_code
        return {
            "messageId": ids.message_id,
            "role": "assistant",
            "parentId": ids.user_message_id,
            "content": answer.text,
            "reasoning": answer.reasoning,
            "sources": [{"title": source.title, "url": source.url} for source in answer.sources],
            "status": outcome.status if outcome else "streaming",
            "finishReason": outcome and outcome.finish_reason,
            "failure": failure and {"code": failure, "message": "-", "retryable": outcome.status.retryable},
            "model": ids.model,
            "usage": {"inputTokens": 12, "outputTokens": 34, "estimated": False},
            "feedback": self.feedback.get(ids.message_id),
        }

    async def _stream(self, chat_id: str, request: Request, response: _Response) -> None:
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Refuse):
            return await response.problem(fault)
        if isinstance(fault, Hold):
            await fault.until.wait()
        cut = fault if isinstance(fault, Cut) else None
        last = request.headers.get("last-event-id", "")
        is_sent = request.method == "POST" and not last
        found = self._send(chat_id, request) if is_sent else self._find(chat_id, request, last)
        if cut and cut.events is None:
            return None  # the request has arrived, the response has not
        if isinstance(found, Refuse):
            return await response.problem(found)
        if found is None or last.endswith(":done"):
            return await response.empty()
        after = last.partition(":")[2].replace("start", "") or 0
        self._following.add(response)
        try:
            return await self._follow(found, 0 if cut and cut.is_replay else int(after), cut, response)
        finally:
            self._following.discard(response)

    def _send(self, chat_id: str, request: Request) -> Generation | Refuse:
        session, body = request.headers["x-session-id"], request.json
        again = body.get("regenerate", {})
        message = again.get("userMessageId") or body.get("userMessageId") or new_id()
        known = self._by("user_message_id", chat_id, message)
        if again:
            body = {"content": known.content, "parentMessageId": known.parent_id, **body}
            for other in self.generations:
                if other.attempt_id == again["attemptId"]:
                    return other
        elif known is not None and (known.is_active or not known.answer.outcome.status.retryable):
            return known if known.content == body["content"] else Refuse(409, "idempotency_conflict")
        for other in self.generations:
            if other.is_active and (other.identity.chat_id, other.identity.session_id) == (chat_id, session):
                if body.get("onBusy") != "cancel":
                    return Refuse(409, "stream_in_progress", {"activeMessageId": other.identity.message_id})
                other.end(Outcome(Status.CANCELLED))
        newest = [g.identity.message_id for g in self.generations if g.identity.chat_id == chat_id]
        parent = known.parent_id if known else body.get("parentMessageId", newest[-1] if newest else None)
        answer = Answer(AnswerIds(chat_id, new_id(), message, session, body.get("model") or "stub"))
        generation = Generation(answer, body["content"], parent, again.get("attemptId"))
        self.generations.append(generation)
        generation.answer.begin()
        if message in self._intents:
            generation.end(Outcome(Status.CANCELLED))
        else:
            self._spawn(generation.play(self.scripts.popleft() if self.scripts else [f"You said: {body['content']}"]))
        return generation

    def _find(self, chat_id: str, request: Request, last: str) -> Generation | None:
        if message_id := last.partition(":")[0] or request.query.get("messageId"):
            return self._by("message_id", chat_id, message_id)
        if user_message_id := request.query.get("userMessageId"):
            return self._by("user_message_id", chat_id, user_message_id)
        active = [g for g in self.generations if g.is_active and g.identity.chat_id == chat_id]
        return active[-1] if active else None

    def _by(self, name: str, chat_id: str, value: str) -> Generation | None:
        found = [g for g in self.generations if (g.identity.chat_id, getattr(g.identity, name)) == (chat_id, value)]
        return found[-1] if found else None

    async def _follow(self, generation: Generation, position: int, cut: Cut | None, response: _Response) -> None:
        await response.begin_stream()
        if self.retry_ms is not None:
            await response.chunk(b"retry: %d\n" % self.retry_ms)
        events, message_id = generation.answer.events, generation.identity.message_id
        left = cut.events if cut else None

        def encode(event: Event) -> bytes:
            if not (cut and cut.is_replay):
                return encode_events([event], message_id)
            return encode_events([event._replace(number=0)], message_id, with_ids=event.name == "start")

        while True:
            for event in events[position:]:
                if left is not None and left <= 0:
                    await response.chunk(encode(event)[: cut.bytes])
                    if cut.when:
                        await cut.when.wait()
                    return await response.end_stream() if cut.ends_properly else response.abort()
                await response.chunk(encode(event))
                position, left = position + 1, None if left is None else left - 1
            if not generation.is_active and position >= len(events):
                return await response.end_stream()
            await generation.changed.wait()

    async def _cancel(self, chat_id: str, request: Request, response: _Response) -> None:
        fault = self.cancel_faults.popleft() if self.cancel_faults else None
        if isinstance(fault, Refuse):
            return await response.problem(fault)
        outcome = self._outcome(chat_id, request.headers["x-session-id"], request.json)
        if isinstance(fault, Hold):
            await fault.until.wait()
        return await response.json(200, {**outcome, "message": "-"})

    def _outcome(self, chat_id: str, session: str, body: dict) -> dict:
        found = self._to_cancel(chat_id, session, body)
        if found is None and "userMessageId" in body:
            self._intents.add(body["userMessageId"])
            return {"success": True, "status": "cancelling", "messageId": None}
        if found is not None:
            found.end(Outcome(Status.CANCELLED))
        if found is None or found.answer.outcome.status is not Status.CANCELLED:
            return {"success": False, "status": "not_active"}
        message_id, characters = found.identity.message_id, found.answer.characters
        ended = {"success": True, "status": "cancelled", "messageId": message_id, "characters": characters}
        return {**ended, "elapsedMs": 1}

    def _to_cancel(self, chat_id: str, session: str, body: dict) -> Generation | None:
        if "messageId" in body:
            return self._by("message_id", chat_id, body["messageId"])
        if "userMessageId" in body:
            return self._by("user_message_id", chat_id, body["userMessageId"])
        mine = [g for g in self.generations if g.is_active and g.identity.session_id == session]
        return mine[-1] if mine else None


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, body)


async def _serve_page(path: str, response: _Response) -> None:
    file = PAGE / ("index.html" if path == "/" or path.startswith("/c/") else path.removeprefix("/"))
    if not file.is_file():
        return await response.problem(Refuse(404, "not_found"))
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return await response.whole(200, {"content-type": kind}, file.read_bytes())


class _Response:
    def __init__(self, writer: asyncio.StreamWriter, bytes_per_chunk: int) -> None:
        self._writer = writer
        self._size = bytes_per_chunk

    async def whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        await self._head(status, {**headers, "content-length": str(len(body))})
        self._writer.write(body)
        await self._writer.drain()

    async def json(self, status: int, document: dict, kind: str = "application/json", **headers: str) -> None:
        await self.whole(status, {"content-type": kind, **headers}, json.dumps(document).encode())

    async def problem(self, refusal: Refuse) -> None:
        document = {"status": refusal.status, "code": refusal.code, "detail": f"Refused: {refusal.code}."}
        await self.json(refusal.status, {**document, **refusal.extras}, "application/problem+json", **refusal.headers)

    async def empty(self) -> None:
        await self._head(204, {})

    async def begin_stream(self) -> None:
        await self._head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})

    async def chunk(self, data: bytes) -> None:
        size = self._size or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} -", "connection: close", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        await self._writer.drain()


__all__ = [
    "Cut",
    "FailureCode",
    "Finish",
    "Generation",
    "Hold",
    "Reasoning",
    "Refuse",
    "Source",
    "Sources",
    "StubService",
]
