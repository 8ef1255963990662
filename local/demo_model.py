"""The demo model: an OpenAI-compatible server of our own for those who have no key yet. It says that it is a demo.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.demo_answer import DemoAnswer, answer, pieces
from local.plan import DEMO_MODEL

_DELTAS_PER_SECOND = 30
_CHARACTERS_PER_TOKEN = 4


class BadRequest(ValueError):
    """The request is not one for a chat completion."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is used of a request."""

    answer: DemoAnswer
    input_characters: int
    limit: int | None
    """Of the pieces of the answer; the demo counts each as a token."""
    is_streamed: bool
    with_usage: bool

    @property
    def pieces(self) -> list[str]:
        return pieces(self.answer.text)[: self.limit]

    @property
    def finish_reason(self) -> str:
        return "length" if len(self.pieces) < len(pieces(self.answer.text)) else "stop"

    @property
    def usage(self) -> dict[str, int]:
        prompt, completion = 1 + self.input_characters // _CHARACTERS_PER_TOKEN, len(self.pieces)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def read(body: bytes) -> Asked:
    """Understand a request.

    Raises:
        BadRequest: it is no JSON, or has no messages.
    """
    try:
        asked = json.loads(body)
        turns = [(str(turn["role"]), _content(turn.get("content"))) for turn in asked["messages"]]
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
        return Asked(
            answer=answer(
                [content for role, content in turns if role == "user"],
                " ".join(content for role, content in turns if role in ("system", "developer")),
            ),
            input_characters=sum(len(content) for _, content in turns),
            limit=None if limit is None else int(limit),
            is_streamed=bool(asked.get("stream")),
            with_usage=bool((asked.get("stream_options") or {}).get("include_usage")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest from error


def _content(content: object) -> str:
    """Return a message's text, which may come in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return str(content or "")


def deltas(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield what is added to the message, piece by piece."""
    yield {"role": "assistant", "content": ""}
    for piece in pieces(asked.answer.reasoning):
        yield {"reasoning_content": piece}
    for piece in asked.pieces:
        yield {"content": piece}
    yield {"annotations": [_citation(asked)]}


def _citation(asked: Asked) -> dict[str, Any]:
    source = {"title": asked.answer.source_title, "url": asked.answer.source_url}
    return {"type": "url_citation", "url_citation": source | {"start_index": 0, "end_index": 0}}


async def _stream(asked: Asked) -> AsyncIterator[bytes]:
    """Yield the events of an answer, at the pace of the demo."""
    frame = {"id": _new_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": DEMO_MODEL}
    due = asyncio.get_running_loop().time()
    for delta in deltas(asked):
        yield _event(frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        due += 1 / _DELTAS_PER_SECOND
        await asyncio.sleep(due - asyncio.get_running_loop().time())
    yield _event(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": asked.finish_reason}]})
    if asked.with_usage:
        yield _event(frame | {"choices": [], "usage": asked.usage})
    yield b"data: [DONE]\n\n"


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def _whole(asked: Asked) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": "".join(asked.pieces),
        "reasoning_content": asked.answer.reasoning or None,
        "annotations": [_citation(asked)],
    }
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": DEMO_MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": asked.finish_reason}],
        "usage": asked.usage,
    }


def _new_id() -> str:
    return f"chatcmpl-demo-{time.time_ns():x}"


async def _complete(request: Request) -> Response:
    try:
        asked = read(await request.body())
    except BadRequest:
        error = {"message": "This is no request for a chat completion.", "type": "invalid_request_error"}
        return JSONResponse({"error": error}, 400)
    if not asked.is_streamed:
        return JSONResponse(_whole(asked))
    return StreamingResponse(_stream(asked), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": DEMO_MODEL, "object": "model", "owned_by": "local"}]})


app = Starlette(
    routes=[Route("/v1/chat/completions", _complete, methods=["POST"]), Route("/v1/models", _models, methods=["GET"])]
)


def main() -> None:
    """Serve on the listening socket whose file descriptor is the only argument."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", lifespan="off", access_log=False))
    server.run([listener])


if __name__ == "__main__":
    main()
