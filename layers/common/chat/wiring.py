"""Joins adapters to ports: the only module that knows all. Building opens nothing; the first request connects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.types import Lifespan

from chat.adapters.aws.secrets import Secrets
from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.adapters.redis.coordination import RedisCoordination
from chat.adapters.redis.rate_limiter import RedisRateLimiter
from chat.adapters.redis.servers import open_servers
from chat.adapters.telemetry.answer_telemetry import LoggingTelemetry
from chat.adapters.telemetry.logs import log_everything
from chat.application.cancel_answer import CancelAnswer
from chat.application.create_chat import CreateChat
from chat.application.deps import AnswerDeps, Budget
from chat.application.follow_answer import FollowAnswer
from chat.application.named_chats import NamedChats
from chat.application.ports import AI, AnswerTelemetry, RateLimiter
from chat.application.recover_orphans import OrphanRecovery
from chat.application.start_answer import StartAnswer
from chat.application.telemetry_events import ActiveAnswersCounted, FallbackTaken
from chat.application.write_title import WriteTitle
from chat.http.auth.identity import token_verifier
from chat.http.health import Health
from chat.http.problems import MEDIA_TYPE
from chat.http.rebuilt import Rebuilt
from chat.http.routes import HttpDeps, application, cancel_routes, stream_routes
from chat.http.ui_routes import ui_routes
from chat.settings import Secret, Settings, SettingsError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from chat.adapters.telemetry.tracing import Tracing
    from chat.application.manage_chats import ManageChats

EXPIRED_AT_ONCE = 50
WARM_SECONDS = 2.0
"""How long a cold start waits for its first connection to the AI."""


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def write_logs(settings: Settings) -> None:
    """Make the whole process write its logs as lines of JSON; for whoever owns the process."""
    log_everything(settings.telemetry)


@dataclass(frozen=True, slots=True)
class Resources:
    """What every function has open, and how it is closed."""

    chats: SqlChatRepository
    coordination: RedisCoordination
    rate_limiter: RedisRateLimiter
    telemetry: AnswerTelemetry
    recover: OrphanRecovery
    http: HttpDeps

    async def close(self) -> None:
        """Close all connections."""
        await self.coordination.close()
        await self.chats.close()


def configure(environ: Mapping[str, str], with_ai: bool = False) -> tuple[Settings, Secrets]:
    """Return a function's settings, with the values that some only point to, and what reads those anew.

    Raises:
        SettingsError: one is missing or wrong, or what it points to cannot be read.
    """
    secrets = Secrets(environ)
    return Settings.read(secrets.environ(with_ai), with_ai), secrets


def function(
    build: Callable[[Settings, Secrets], Starlette], environ: Mapping[str, str], with_ai: bool = False
) -> Rebuilt:
    """Return a function's application, built from its environment now and after each restore from a snapshot.

    Raises:
        SettingsError: as `configure`.
    """

    def from_environment() -> Starlette:
        settings, secrets = configure(environ, with_ai)
        write_logs(settings)
        return build(settings, secrets)

    return Rebuilt(from_environment)


def renewal(secrets: Secrets | None, name: str) -> Callable[[], str | None] | None:
    """Return what reads a setting anew when a login is refused; None where the setting is the value itself."""
    if secrets is None or not secrets.is_referred(name):
        return None

    def renew() -> str | None:
        try:
            return secrets.renew(name)
        except SettingsError:
            return None  # the refused login stays; the next refusal asks again

    return renew


def open_resources(settings: Settings, secrets: Secrets | None = None) -> Resources:
    """Build the adapters of both stores; nothing connects yet."""
    telemetry = LoggingTelemetry(settings.telemetry)
    chats = SqlChatRepository(open_engine(settings.mysql_url, settings.max_concurrency, renewal(secrets, "MYSQL_URL")))
    coordination = RedisCoordination(
        open_servers(settings.redis_url, renewal(secrets, "REDIS_URL")),
        settings.session_ttl_seconds,
        on_unavailable=lambda: telemetry.record(FallbackTaken("redis_away")),
        on_counted=lambda active: telemetry.record(ActiveAnswersCounted(active)),
    )
    rate_limiter = RedisRateLimiter(
        coordination.client,
        coordination.flush_loop,
        settings.limits,
        on_unavailable=lambda: telemetry.record(FallbackTaken("limits_off")),
    )
    recover = OrphanRecovery(chats, leases=coordination, event_log=coordination, telemetry=telemetry, now=now)
    http = HttpDeps(settings, token_verifier(settings.auth), Health(chats, coordination, telemetry))
    return Resources(chats, coordination, rate_limiter, telemetry, recover, http)


def create_chat(settings: Settings, secrets: Secrets | None = None) -> FastAPI:
    """Return the application of create_chat."""
    from chat.http.chat_routes import add_create_routes
    from chat.http.fastapi_app import fastapi_application

    resources = open_resources(settings, secrets)
    create = CreateChat(resources.chats, resources.rate_limiter, resources.telemetry, now)
    return fastapi_application(
        resources.http, "create_chat", lambda app: add_create_routes(app, resources.http, create), closing(resources)
    )


def manage_chats(settings: Settings, secrets: Secrets | None = None) -> FastAPI:
    """Return the application of manage_chats."""
    from chat.http.chat_routes import add_manage_routes
    from chat.http.fastapi_app import fastapi_application

    resources = open_resources(settings, secrets)
    manage = manage_chats_with(resources)
    return fastapi_application(
        resources.http, "manage_chats", lambda app: add_manage_routes(app, resources.http, manage), closing(resources)
    )


def manage_chats_with(resources: Resources) -> ManageChats:
    """Return what looks through chats and deletes them."""
    from chat.adapters.mysql.library import SqlChatLibrary
    from chat.application.manage_chats import ManageChats

    return ManageChats(
        SqlChatLibrary(resources.chats.database),
        traces=resources.coordination,
        cancel=cancel_answer(resources),
        recover=resources.recover,
        telemetry=resources.telemetry,
        now=now,
    )


async def delete_expired(settings: Settings, secrets: Secrets | None, seconds: float) -> int:
    """Delete chats that are kept no longer, and those half deleted, for at most so long; return how many."""
    ends_at = asyncio.get_running_loop().time() + seconds
    resources = open_resources(settings, secrets)
    manage, deleted = manage_chats_with(resources), 0
    try:
        while (some := await manage.delete_expired(settings.retention_days, EXPIRED_AT_ONCE)) > 0:
            deleted += some
            if asyncio.get_running_loop().time() > ends_at:
                break
    finally:
        await resources.close()
    logging.getLogger(__name__).info("chats deleted", extra={"deleted": deleted, "days": settings.retention_days})
    return deleted


def cancel_stream(settings: Settings, secrets: Secrets | None = None) -> Starlette:
    """Return the application of cancel_stream."""
    resources = open_resources(settings, secrets)
    return application(resources.http, cancel_routes(resources.http, cancel_answer(resources)), closing(resources))


def cancel_answer(resources: Resources) -> CancelAnswer:
    """Return what cancels answers."""
    return CancelAnswer(
        resources.chats,
        signals=resources.coordination,
        recover=resources.recover,
        rate_limiter=resources.rate_limiter,
        telemetry=resources.telemetry,
        now=now,
    )


def stream_chat(settings: Settings, secrets: Secrets | None = None) -> Starlette:
    """Return the application of stream_chat."""
    from chat.adapters.llm.client import OpenAI

    if settings.ai is None:
        raise SettingsError("stream_chat needs the settings of the AI")
    ai = settings.ai
    resources = open_resources(settings, secrets)
    chats, coordination, telemetry = resources.chats, resources.coordination, resources.telemetry

    async def renew_key(setting: str) -> Secret | None:
        renew = renewal(secrets, setting)
        key = await asyncio.to_thread(renew) if renew is not None else None
        return Secret(key) if key else None

    models = OpenAI(ai, renew_key)
    tracing = open_tracing(settings)
    asked: AI = tracing.ai(models) if tracing else models
    rate_limiter: RateLimiter = resources.rate_limiter
    if tracing:
        telemetry, rate_limiter = tracing.telemetry(telemetry), tracing.rate_limiter(rate_limiter)
    deps = AnswerDeps(
        tracing.chats(chats) if tracing else chats,
        leases=tracing.leases(coordination) if tracing else coordination,
        ai=asked,
        telemetry=telemetry,
        budget=Budget(ai.context_tokens, ai.max_output_tokens, settings.deadline_margin_seconds),
        now=now,
        write_title=WriteTitle(asked, chats, telemetry, ai.title_model) if ai.writes_titles else None,
    )
    start = StartAnswer(deps, rate_limiter, resources.recover, cancel_answer(resources))
    follow = FollowAnswer(chats, coordination, resources.recover, resources.rate_limiter, telemetry)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await models.warm(WARM_SECONDS)  # paid at init, not by a user
        try:
            yield
        finally:
            await models.close()
            await resources.close()
            if tracing:
                await tracing.close()

    names = NamedChats(chats, CreateChat(chats, resources.rate_limiter, telemetry, now))
    routes = [*stream_routes(resources.http, start, follow), *ui_routes(resources.http, names, start, follow)]
    app = application(resources.http, routes, lifespan)
    if tracing:
        app.add_middleware(tracing.app)
    return app


def open_tracing(settings: Settings) -> Tracing | None:
    """Return what traces answers, where that is wanted.

    Raises:
        SettingsError: it is wanted, and its packages are not installed.
    """
    if not settings.telemetry.is_traced:
        return None
    try:
        from chat.adapters.telemetry.tracing import Tracing
    except ImportError:
        packages = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
        where = "a layer that has them (the template's TracingLayerArn), or pip install them for make run"
        raise SettingsError(f"CHAT_TRACING=otlp needs {packages}: {where}") from None
    return Tracing(settings.telemetry.service)


def closing(resources: Resources) -> Lifespan[Starlette]:
    """Return the lifespan that closes everything at the end, where a server has one; Mangum on Lambda has none."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await resources.close()

    return lifespan


def lambda_handler(app: Rebuilt) -> Any:
    """Return `app` as a handler of AWS's own runtime, which answers in one piece and knows no lifespan."""
    from mangum import Mangum  # here, because the function that streams pays nothing for it
    from snapshot_restore_py import register_after_restore

    from chat.http.function_url import FunctionUrl

    register_after_restore(app.rebuild)
    text_types = ["text/", "application/json", MEDIA_TYPE]
    return Mangum(app, lifespan="off", custom_handlers=[FunctionUrl], text_mime_types=text_types)
