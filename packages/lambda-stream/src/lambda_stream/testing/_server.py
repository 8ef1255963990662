"""The Lambda Runtime API of one execution environment, and of the Extensions API what an internal extension needs.

What it answers is what AWS documents; after a fault it does what the runtime interface emulator was seen to do.
Source: AWS Lambda developer guide, "Using the Lambda runtime API", "Building a custom runtime" (response streaming),
"Lambda Extensions API", "Implementing runtime hooks for SnapStart".
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from lambda_stream.testing._environment import Environment, InvocationQueue
from lambda_stream.testing._invocation import ErrorReport, Invocation
from lambda_stream.testing._requests import BadRequest, RequestEnd, RequestHead, RequestParser

Fault = Literal["drop", "cut", "garbage", "close", "vanish", "announce"]
"""drop: no byte; cut: within the answer; garbage: no HTTP; close: answered, announced to close, closed;
vanish: answered, closed without a word; announce: answered, announced to close, left open."""

_RUNTIME = "/2018-06-01/runtime"
_EXTENSION = "/2020-01-01/extension"
_ANSWER = re.compile(rf"{_RUNTIME}/invocation/([^/]+)/(response|error)")
_BACKLOG = 1024
_REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 410: "Gone"}


class RuntimeApi:
    """The emulator. `async with RuntimeApi() as api`; start a function at `api.address`; then `api.invoke(event)`."""

    def __init__(
        self,
        environment: Environment | None = None,
        listener: socket.socket | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        """Serve `environment`, a queue without one, on `listener`, a free port of this machine without one.

        A small receive buffer lets a writer soon feel that nothing is read.
        """
        self._queue = InvocationQueue()
        self._environment: Environment = environment or self._queue
        self._listener = listener or _listen(receive_buffer_bytes)
        self._links: set[_Link] = set()
        self._restoring: list[asyncio.Future[None]] = []
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        """What AWS_LAMBDA_RUNTIME_API must be."""
        self.poll_script: deque[Fault | int] = deque()
        """What happens to the next polls instead of an invocation: a fault, or a status."""
        self.error_status = 202
        """What reports to `/init/error` and `/restore/error` are answered with."""
        self.polls = 0
        """Polls so far."""
        self.waiting = 0
        """Polls that wait for an invocation."""
        self.most_waiting = 0
        self.connections = 0
        """Connections that are open."""
        self.accepted = 0
        """Connections so far."""
        self.refusals: list[str] = []
        """Request lines of what was answered with 400, 403 or 404."""
        self.is_restored = True
        """Whether GET /restore/next is answered at once; if not, it waits for `restore`."""
        self.at_snapshot = asyncio.Event()
        """The function has asked for /restore/next: its snapshot can be taken."""
        self.takes_extensions = True
        """Whether extensions may register."""
        self.extensions: dict[str, list[str]] = {}
        """Names of the extensions that have registered, each with its events."""
        self.extensions_ready = asyncio.Event()
        """An extension waits for its next event, as Lambda demands of each one before it invokes anything."""

    async def __aenter__(self) -> RuntimeApi:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), sock=self._listener, backlog=_BACKLOG)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in list(self._links):
            link.abort()
        while self._links:  # noqa: ASYNC110  # a connection is lost in the loop's next turn
            await asyncio.sleep(0)

    @property
    def init_errors(self) -> list[ErrorReport]:
        """What was reported to /init/error; with an environment of your own, that one hears it instead."""
        return [report for stage, report in self._queue.reports if stage == "init"]

    @property
    def restore_errors(self) -> list[ErrorReport]:
        """What was reported to /restore/error; likewise."""
        return [report for stage, report in self._queue.reports if stage == "restore"]

    def invoke(self, event: object, **script: Any) -> Invocation:
        """Queue an invocation; the next poll gets it. `script` are further fields of `Invocation`."""
        invocation = Invocation(event, **script)
        self.submit(invocation)
        return invocation

    def submit(self, invocation: Invocation) -> None:
        """Queue an invocation of your own making."""
        self._queue.put(invocation)

    def restore(self) -> None:
        """Answer GET /restore/next, now and from now on."""
        self.is_restored = True
        for future in self._restoring:
            if not future.done():
                future.set_result(None)
        self._restoring.clear()

    def _exchange(self, link: _Link, head: RequestHead) -> _Exchange:
        match head.method, head.target:
            case "GET", target if target == f"{_RUNTIME}/invocation/next":
                return _Poll(self, link)
            case "GET", target if target == f"{_RUNTIME}/restore/next":
                return _Restore(self, link)
            case "POST", target if target == f"{_RUNTIME}/init/error":
                return _Report(link, head, lambda report: self._fail("init", link, report))
            case "POST", target if target == f"{_RUNTIME}/restore/error":
                return _Report(link, head, lambda report: self._fail("restore", link, report))
            case "POST", target if found := _ANSWER.fullmatch(target):
                return self._answer(link, head, found[1], found[2])
            case "POST", target if target == f"{_EXTENSION}/register":
                return _Registration(self, link, head)
            case "GET", target if target == f"{_EXTENSION}/event/next":
                return _ExtensionPoll(self, link, head)
        return self._refuse(link, head, 404, "ResourceNotFound")

    def _answer(self, link: _Link, head: RequestHead, request_id: str, what: str) -> _Exchange:
        invocation = self._environment.find(request_id)
        if invocation is None or not invocation.taken.is_set():
            return self._refuse(link, head, 400, "InvalidRequestID")
        expected = invocation.invocation_id
        if expected is not None and head.headers.get("lambda-runtime-invocation-id", expected) != expected:
            return self._refuse(link, head, 400, "InvalidInvocationID")
        if what == "response":
            invocation.responses += 1
        if invocation.ended.is_set() or invocation.broken.is_set():
            return self._refuse(link, head, 400, "InvalidRequestID")
        if invocation.is_being_answered or invocation.begun.is_set():
            return self._refuse(link, head, 403, "InvalidStateTransition")
        if what == "response":
            return _Response(self._environment, link, head, invocation)
        return _Report(link, head, lambda report: self._report(link, head, invocation, report))

    def _report(self, link: _Link, head: RequestHead, invocation: Invocation, report: ErrorReport) -> None:
        status = 410 if invocation.is_late else invocation.status
        invocation.on_error(head.headers, report)
        self._environment.finish(invocation)
        link.answer(status, {"status": "OK"})
        invocation.ended.set()

    def _fail(self, stage: Literal["init", "restore"], link: _Link, report: ErrorReport) -> None:
        self._environment.failed(stage, report)
        link.answer(self.error_status, {"status": "OK"})

    def _refuse(self, link: _Link, head: RequestHead, status: int, kind: str) -> _Exchange:
        self.refusals.append(f"{head.method} {head.target}")
        return _Refusal(link, status, kind)


class _Exchange(Protocol):
    """A request that is being read or answered."""

    def data(self, data: bytes) -> None:
        """Some of its body: a chunk, whole."""

    def end(self, trailers: Mapping[str, str]) -> None:
        """It has arrived whole."""

    def lost(self) -> None:
        """Its connection has ended before it was answered."""


class _Link(asyncio.Protocol):
    """One connection: requests one after the other, each answered before the next is looked at."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser = RequestParser()
        self._exchange: _Exchange | None = None
        self._closes = False
        self._is_paused = False
        self._is_answering = False
        self._is_advancing = False
        self._held: Callable[[], None] | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # create_server makes no others
        self._transport = transport
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._api._links.add(self)
        self._api.connections += 1
        self._api.accepted += 1

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._api._links.discard(self)
        self._api.connections -= 1
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._advance()

    def _advance(self) -> None:
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self.is_open and not (self._is_paused or self._is_answering) and self._step():
                pass
        except BadRequest:
            self.write(_response(400, {"errorType": "InvalidRequest"}, closes=True))
            self.close()
        finally:
            self._is_advancing = False

    def _step(self) -> bool:
        """Take the next part of a request; False when there is none yet."""
        part = self._parser.next()
        if part is None:
            return False
        if isinstance(part, RequestHead):
            if part.headers.get("expect", "").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._closes = part.closes
            self._exchange = self._api._exchange(self, part)
        elif self._exchange is not None:
            if isinstance(part, RequestEnd):
                self._is_answering = True
                self._exchange.end(part.trailers)
            else:
                self._exchange.data(part)
        return True

    def answer(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        """Answer the request; the connection stays open if the client wants it to."""
        self._exchange = None
        self.write(_response(status, document, headers or {}, self._closes))
        if self._closes:
            self.close()
        self.go_on()

    def go_on(self) -> None:
        """Look at the next request."""
        self._exchange = None
        self._is_answering = False
        self._advance()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        """Close once what was written is sent; what is still received is not looked at."""
        self.is_open = False
        self._exchange = None
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def drop(self) -> None:
        """Close at once, and tell the exchange nothing of it."""
        self._exchange = None
        self._transport.abort()

    def pause(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        self._is_paused = False
        self._transport.resume_reading()
        self._advance()

    def hold(self, then: Callable[[], None]) -> None:
        """Do something once `release` is called."""
        self._held = then

    def release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held()


class _Waiting:
    """A request without a body whose answer takes its time."""

    def data(self, data: bytes) -> None:
        raise BadRequest("a GET has no body")

    def end(self, trailers: Mapping[str, str]) -> None:
        pass

    def lost(self) -> None:
        pass


class _Poll(_Waiting):
    """GET /invocation/next."""

    def __init__(self, api: RuntimeApi, link: _Link) -> None:
        self._api = api
        self._link = link
        self._step: Fault | int | None = None
        self._asking: asyncio.Future[Invocation] | None = None

    def end(self, trailers: Mapping[str, str]) -> None:
        self._api.polls += 1
        self._step = self._api.poll_script.popleft() if self._api.poll_script else None
        if isinstance(self._step, int):
            self._link.write(_response(self._step, {}, closes=True))
            self._link.close()
        elif self._step in ("drop", "garbage"):
            self._link.write(b"this is no HTTP\r\n\r\n" if self._step == "garbage" else b"")
            self._link.close()
        else:
            self._count(1)
            self._asking = self._api._environment.ask()
            self._asking.add_done_callback(self._found)

    def lost(self) -> None:
        if self._asking is not None:
            self._asking.cancel()  # one that is done already comes to `_found`, which gives it back

    def _count(self, more: int) -> None:
        self._api.waiting += more
        self._api.most_waiting = max(self._api.most_waiting, self._api.waiting)

    def _found(self, asking: asyncio.Future[Invocation]) -> None:
        self._count(-1)
        if asking.cancelled():
            if self._link.is_open:
                self._link.answer(500, {"errorType": "ProcessEnded"})
        elif self._link.is_open and self._api._environment.take(asking.result()):
            self._hand_out(asking.result())
        else:
            self._api._environment.give_back(asking.result())
            self._link.close()

    def _hand_out(self, invocation: Invocation) -> None:
        payload = invocation.payload
        announces = self._step in ("close", "announce")
        if self._step == "cut":
            head = _head(200, len(payload), _headers_of(invocation), closes=False)
            self._link.write(head + payload[: len(payload) // 2])
            self._link.close()
            self._api._environment.give_back(invocation)  # an unanswered invocation is handed out again
            return
        invocation.taken.set()
        self._link.write(_head(200, len(payload), _headers_of(invocation), closes=announces) + payload)
        if self._step in ("close", "vanish"):
            self._link.close()
        self._link.go_on()


class _Restore(_Waiting):
    """GET /restore/next."""

    def __init__(self, api: RuntimeApi, link: _Link) -> None:
        self._api = api
        self._link = link

    def end(self, trailers: Mapping[str, str]) -> None:
        self._api.at_snapshot.set()
        if self._api.is_restored:
            self._link.answer(200, {})
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._restored)
        self._api._restoring.append(future)

    def _restored(self, _: asyncio.Future[None]) -> None:
        if self._link.is_open:
            self._link.answer(200, {})


class _ExtensionPoll(_Waiting):
    """GET /extension/event/next: an internal extension waits here for ever, as it may register for no SHUTDOWN."""

    def __init__(self, api: RuntimeApi, link: _Link, head: RequestHead) -> None:
        self._api = api
        self._link = link
        self._is_known = bool(head.headers.get("lambda-extension-identifier"))

    def end(self, trailers: Mapping[str, str]) -> None:
        if self._is_known:
            self._api.extensions_ready.set()
        else:
            self._link.answer(403, {"errorType": "Extension.MissingHeader"})


class _Registration:
    """POST /extension/register."""

    def __init__(self, api: RuntimeApi, link: _Link, head: RequestHead) -> None:
        self._api = api
        self._link = link
        self._name = head.headers.get("lambda-extension-name", "")
        self._received = bytearray()

    def data(self, data: bytes) -> None:
        self._received += data

    def end(self, trailers: Mapping[str, str]) -> None:
        try:
            events = json.loads(self._received or b"{}").get("events", [])
        except (ValueError, AttributeError):
            self._link.answer(400, {"errorType": "InvalidRequestFormat"})
            return
        if not self._name or "SHUTDOWN" in events or not self._api.takes_extensions:
            self._link.answer(403, {"errorType": "ShutdownEventNotSupportedForInternalExtension"})
            return
        self._api.extensions[self._name] = events
        document = {"functionName": "function", "functionVersion": "$LATEST", "handler": "app.app"}
        self._link.answer(200, document, {"Lambda-Extension-Identifier": str(uuid.uuid4())})

    def lost(self) -> None:
        pass


class _Response:
    """POST /invocation/{id}/response."""

    def __init__(self, environment: Environment, link: _Link, head: RequestHead, invocation: Invocation) -> None:
        self._environment = environment
        self._link = link
        self._invocation = invocation
        self._chunks = 0
        self._status = 410 if invocation.is_late else invocation.status
        invocation.attach(link)
        invocation.on_response(head.headers)
        if invocation.is_paused:
            link.pause()

    def data(self, data: bytes) -> None:
        self._chunks += 1
        invocation = self._invocation
        invocation.on_chunk(data)
        if self._chunks == invocation.answer_after_chunks:
            self._link.write(_response(self._status, {}, closes=True))
            self._link.close()
            self._let_go()
        elif self._chunks == invocation.drop_after_chunks:
            self._link.drop()
            self._let_go()

    def end(self, trailers: Mapping[str, str]) -> None:
        self._invocation.on_complete(trailers)
        if self._invocation.is_withheld:
            self._link.hold(self._finish)
        else:
            self._finish()

    def _let_go(self) -> None:
        self._invocation.attach(None)
        self._environment.finish(self._invocation)

    def _finish(self) -> None:
        self._let_go()
        self._link.answer(self._status, {"status": "OK"})
        self._invocation.ended.set()

    def lost(self) -> None:
        self._let_go()
        self._invocation.on_broken()


class _Report:
    """POST to one of the `/error` routes."""

    def __init__(self, link: _Link, head: RequestHead, then: Callable[[ErrorReport], None]) -> None:
        self._link = link
        self._head = head
        self._then = then
        self._received = bytearray()

    def data(self, data: bytes) -> None:
        self._received += data

    def end(self, trailers: Mapping[str, str]) -> None:
        self._then(ErrorReport.read(self._head.headers, bytes(self._received)))

    def lost(self) -> None:
        pass


class _Refusal:
    """What is read to its end and refused."""

    def __init__(self, link: _Link, status: int, kind: str) -> None:
        self._link = link
        self._status = status
        self._kind = kind

    def data(self, data: bytes) -> None:
        pass

    def end(self, trailers: Mapping[str, str]) -> None:
        self._link.answer(self._status, {"errorType": self._kind, "errorMessage": self._kind})

    def lost(self) -> None:
        pass


def _headers_of(invocation: Invocation) -> dict[str, str]:
    headers = {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
        "Lambda-Runtime-Trace-Id": invocation.trace_id,
    }
    if invocation.invocation_id is not None:
        headers["Lambda-Runtime-Invocation-Id"] = invocation.invocation_id
    return headers | dict(invocation.extra_headers)


def _response(status: int, document: object, headers: Mapping[str, str] | None = None, closes: bool = False) -> bytes:
    body = json.dumps(document).encode()
    return _head(status, len(body), headers or {}, closes) + body


def _head(status: int, length: int, headers: Mapping[str, str], closes: bool) -> bytes:
    fields = {"Content-Type": "application/json", "Content-Length": str(length), **headers}
    if closes:
        fields["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n{lines}\r\n".encode("latin-1")


def _listen(receive_buffer_bytes: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    listener.bind(("127.0.0.1", 0))
    return listener
