"""The functions that answer in one piece, on FastAPI: the same errors, health and rules for paths as on Starlette.

Imported by create_chat and manage_chats only: FastAPI and pydantic cost more at a cold start than all else together.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Lifespan

from chat.http.cors import Cors
from chat.http.problems import UnknownErrors, exception_handlers
from chat.http.routes import HttpDeps, health_endpoint

Endpoint = Callable[[Request], Awaitable[Any]]


class ExactRoute(APIRoute):
    """Answers exactly its path: the pattern of Starlette allows a line feed behind it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def fastapi_application(
    deps: HttpDeps, title: str, add_routes: Callable[[FastAPI], None], lifespan: Lifespan[FastAPI] | None = None
) -> FastAPI:
    """Return an application with `/health` and problem documents for all errors."""
    middleware = [Middleware(UnknownErrors)]
    if origins := deps.settings.allowed_origins:
        middleware.insert(0, Middleware(Cors, allowed_origins=origins))
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=middleware,
        exception_handlers=cast("Any", exception_handlers()),
        lifespan=lifespan,
    )
    app.router.route_class = ExactRoute
    add_routes(app)
    app.add_api_route(
        "/health", health_endpoint(deps.health), methods=["GET", "HEAD"], include_in_schema=False, response_model=None
    )
    return app


def json_body(model: type[Any], is_required: bool = True) -> dict[str, Any]:
    """Return what OpenAPI is told of a body that the endpoint reads itself, strictly."""
    schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}}}


def no_content() -> Response:
    """Return 204."""
    return Response(status_code=204)


__all__: Sequence[str] = ("Endpoint", "ExactRoute", "fastapi_application", "json_body", "no_content")
