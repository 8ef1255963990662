"""The whole document: an entry for each route that the applications really have, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from chat.settings import Settings
from chat.wiring import cancel_stream, create_chat, manage_chats, stream_chat
from deploy.release import version
from openapi.events import EVENTS
from openapi.operations import OPERATIONS, TAGS, completed
from openapi.problems import problem_responses, problem_schemas
from openapi.schemas import SCHEMAS

PLACE = Path(__file__).parents[1] / "docs" / "openapi.json"
_NOWHERE = {"REDIS_URL": "redis://localhost", "MYSQL_URL": "sqlite:///nowhere", "OPENAI_BASE_URL": "http://localhost"}

DESCRIPTION = """\
Create a chat, stream answers to messages, follow or resume an answer, cancel one.

Each function has an address of its own when deployed; `make run` serves all of them at one. A body is JSON whatever
text type it is declared as. Errors before the first byte of a stream are problem documents (RFC 9457); whatever goes
wrong later is a `failure` event. A header sent twice is 400, a path that is no route 404 `not_found`, another method
405 `method_not_allowed` with `Allow`. HEAD is answered wherever GET is, but not for a stream.
"""

SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "`CHAT_AUTH=jwt`: the user is the token's `sub`. `X-User-Id` may be left out; one that says "
        "something else is 403.",
    },
    "user": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "`CHAT_AUTH=header`: trusted as it is, for use behind something that has already authenticated "
        "the caller. 1 to 128 characters of `A-Z a-z 0-9 . _ : @ + | -`; missing or malformed is 400.",
    },
}


def applications() -> dict[str, Starlette]:
    """Return the four applications by their functions' names; nothing of them is opened."""
    settings = Settings.read(_NOWHERE, with_ai=True)
    return {
        "create_chat": create_chat(settings),
        "stream_chat": stream_chat(settings),
        "cancel_stream": cancel_stream(settings),
        "manage_chats": manage_chats(settings),
    }


def routes() -> Iterator[tuple[str, str]]:
    """Yield method and path of each route of each application, those that several have once, and HEAD never."""
    every = [cast("Route", route) for app in applications().values() for route in app.routes]
    methods = ((method, route.path) for route in every for method in sorted(route.methods or ()))
    yield from dict.fromkeys((method, path) for method, path in methods if method != "HEAD")


def described_by_fastapi() -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Return the operations, by method and path, and the schemas of the functions that are on FastAPI."""
    operations: dict[tuple[str, str], dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for app in applications().values():
        if isinstance(app, FastAPI):
            found = app.openapi()
            schemas |= found["components"]["schemas"]
            for path, item in found["paths"].items():
                operations |= {(method.upper(), path): completed(one) for method, one in item.items()}
    return operations, schemas


def document() -> dict[str, Any]:
    """Return the OpenAPI document.

    Raises:
        KeyError: a route is not described.

    Source: OpenAPI specification 3.1.
    """
    described, schemas = described_by_fastapi()
    paths: dict[str, dict[str, Any]] = {}
    for method, path in routes():
        operation = described.get((method, path)) or OPERATIONS[method, path]
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AIVA chat",
            "version": version(),
            "summary": "Streaming AI chat",
            "description": DESCRIPTION,
        },
        "servers": [{"url": "http://localhost:8000", "description": "make run"}],
        "tags": TAGS,
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, **schemas, **EVENTS, **problem_schemas()},
            "responses": problem_responses(),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def text() -> str:
    """Return the document as the file has it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"
