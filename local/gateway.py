"""The one address: parts requests by path among the functions' URLs, and serves the chat page beside them."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chat.domain.errors import ChatError
from chat.domain.model import new_id
from chat.http.errors import Forbidden, MethodNotAllowed, NotFound, PayloadTooLarge
from chat.http.problems import problem
from local.function import Function, TooLarge
from local.function_url import LIMIT_BYTES, Request
from local.invocation import Invocation, InvocationFailed

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OPENAPI = Path(__file__).parents[1] / "docs" / "openapi.json"
_ADDRESS_OF_A_CHAT = re.compile(r"/c/[0-9A-Za-z-]+")


class Gateway:
    """An ASGI application; everything in the folder `pages` is public, `index.html` is `/` and each `/c/{chatId}`.

    The page reads `page_settings` at `/page-settings.json`. `/openapi.json` describes all functions, `/docs` shows it.

    Answers only to requests for this machine and for `hosts`: a page elsewhere whose name is made to lead here (DNS
    rebinding) must not use the developer's key.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        pages: Path,
        hosts: Collection[str] = (),
        page_settings: Mapping[str, object] | None = None,
    ) -> None:
        self._functions = functions
        self._pages = pages
        self._page_settings = dict(page_settings or {})
        self._hosts = LOCAL_HOSTS | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_for_us(scope):
            refused = Forbidden("This address answers to localhost. Name other hosts in CHAT_LOCAL_HOSTS.")
            await problem(refused, new_id())(scope, receive, send)
            return
        function = next((one for one in self._functions if one.plan.serves(scope["path"])), None)
        try:
            if function is None:
                await self._page(scope)(scope, receive, send)
            elif (body := await _read(receive)) is not None:
                await _pass_on(function.invoke(_request(scope, body)), scope, receive, send)
        except TooLarge:
            error = PayloadTooLarge("A request may have 6 MB at most.")
            await problem(error, new_id())(scope, receive, send)

    def _is_for_us(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and re.sub(r":\d+\Z", "", hosts[0]) in self._hosts

    def _settings(self) -> Response:
        return JSONResponse(self._page_settings)

    def _file(self, file: Path) -> Response:
        content = file.read_bytes()
        sign_in = self._page_settings.get("signIn")
        if file.name == "index.html" and isinstance(sign_in, Mapping):
            elsewhere = urlsplit(sign_in["tokenEndpoint"])
            allowed = f"connect-src 'self' {elsewhere.scheme}://{elsewhere.netloc}"
            content = content.replace(b"connect-src 'self'", allowed.encode(), 1)
        return Response(content, media_type=mimetypes.guess_type(file.name)[0])

    def _page(self, scope: Scope) -> Response:
        path = scope["path"]
        files = {f"/{file.relative_to(self._pages).as_posix()}": file for file in self._pages.rglob("*.*")}
        file = files.get("/index.html" if path == "/" or _ADDRESS_OF_A_CHAT.fullmatch(path) else path)
        made = {"/page-settings.json": self._settings, "/openapi.json": _openapi, "/docs": _docs}.get(path)
        if made is None and file is not None:
            made = partial(self._file, file)
        if made is None:
            return problem(NotFound("Nothing is served here."), new_id())
        if scope["method"] not in ("GET", "HEAD"):
            return problem(MethodNotAllowed("GET, HEAD"), new_id())
        response = made()
        response.headers.update(
            {
                "cache-control": "no-cache",
                "content-security-policy": "frame-ancestors 'none'",  # a meta element cannot say this
                "x-content-type-options": "nosniff",
            }
        )
        return response


def _openapi() -> Response:
    return Response(_OPENAPI.read_bytes(), 200, media_type="application/json")


def _docs() -> Response:
    """Return FastAPI's page for the document of all functions; its scripts come from a CDN."""
    from fastapi.openapi.docs import get_swagger_ui_html

    return get_swagger_ui_html(openapi_url="/openapi.json", title="AIVA chat")


async def _read(receive: Receive) -> bytes | None:
    """Return the request's body, or None when the client is gone before its end.

    Raises:
        TooLarge: it is over the limit; the rest is not read.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > LIMIT_BYTES:
            raise TooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _request(scope: Scope, body: bytes) -> Request:
    return Request(
        method=scope["method"],
        raw_path=scope["raw_path"].decode("ascii"),
        path=scope["path"],
        query=scope["query_string"].decode("ascii"),
        headers=scope["headers"],
        body=body,
        client=scope["client"][0] if scope["client"] else "127.0.0.1",
        http_version=scope["http_version"],
    )


async def _pass_on(invocation: Invocation, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the response as it comes; when the client goes away the rest is still read, and dropped, as on Lambda."""
    request_id = (b"x-amzn-requestid", invocation.request_id.encode())
    try:
        status, headers = await invocation.response()
        await send({"type": "http.response.start", "status": status, "headers": [*headers, request_id]})
        async for data in invocation.stream():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except ChatError as error:
        # After the first byte there is nothing to say; uvicorn cuts a response that is left incomplete.
        if not invocation.has_begun:
            kind = error.problem_type if isinstance(error, InvocationFailed) else None
            await problem(error, invocation.request_id, kind)(scope, receive, send)
    finally:
        invocation.end()
