"""Every setting, read once from an environment and checked; a wrong or missing one is named. Nothing else reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chat.ai_settings import AISettings, ModelChoice, read_ai, read_choices
from chat.environment import Environment, Secret, SettingsError, is_reference
from chat.setting_names import check_names

__all__ = [
    "AISettings",
    "AuthSettings",
    "LimitSettings",
    "ModelChoice",
    "Secret",
    "Settings",
    "SettingsError",
    "TelemetrySettings",
    "is_reference",
]

MIN_HASH_KEY_CHARS = 32
MAX_PENDING_CANCELS = 32
"""Of one user; more than anyone needs who sends messages and cancels them before they arrive."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers prove who they are."""

    mode: str
    jwks_url: str | None = None
    secret: Secret | None = None
    algorithms: tuple[str, ...] = ()
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    """A token must be for one of these."""
    user_claim: str = "sub"
    """Which claim of a token names the user."""
    token_header: str = "Authorization"  # noqa: S105  # a name
    token_cookie: str | None = None


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits per user; 0 is off."""

    active_answers: int
    messages_per_minute: int
    tokens_per_day: int
    streams: int = 0
    """Open at once, own and watched."""
    chats_per_minute: int = 0
    pending_cancels: int = 0
    """Cancels that may wait for their messages, which they do for a minute at most."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Under which name this process is watched, and how much it says."""

    service: str
    """The function's short name: a dimension of every metric."""
    namespace: str
    level: str
    """A level of Python's logging."""
    user_key: Secret | None = None
    """With it users appear under the same pseudonym in all processes, without it in one process only."""
    is_traced: bool = False
    """Spans are sent by OTLP."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the service; `ai` only where a function answers."""

    redis_url: Secret
    mysql_url: Secret
    auth: AuthSettings
    limits: LimitSettings
    session_ttl_seconds: int
    max_body_bytes: int
    max_content_chars: int
    heartbeat_seconds: float
    deadline_margin_seconds: float
    max_concurrency: int
    """How many requests one process serves at once."""
    telemetry: TelemetrySettings
    retention_days: int = 0
    """After so many days without a message a chat is deleted; 0 keeps them for ever."""
    allowed_origins: tuple[str, ...] = ()
    """Other origins whose pages may call: exact, with `:*` for any port, or `*` alone."""
    models: tuple[ModelChoice, ...] = ()
    """What clients may choose from; the first is the default."""
    ai: AISettings | None = field(default=None)

    @classmethod
    def read(cls, environ: Mapping[str, str], with_ai: bool = False) -> Settings:
        """Read and check everything at once.

        Raises:
            SettingsError: the first variable that is missing or wrong.
        """
        check_names(environ)
        env = Environment(environ)
        return cls(
            redis_url=env.secret_url("REDIS_URL", ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")),
            mysql_url=env.secret_url("MYSQL_URL", ("mysql", "mysql+pymysql", "sqlite")),
            auth=_read_auth(env),
            limits=LimitSettings(
                active_answers=env.whole("CHAT_MAX_ACTIVE_ANSWERS_PER_USER", 8),
                messages_per_minute=env.whole("CHAT_MESSAGES_PER_MINUTE", 60),
                tokens_per_day=env.whole("CHAT_TOKENS_PER_DAY", 0),
                streams=env.whole("CHAT_MAX_STREAMS_PER_USER", 24),
                chats_per_minute=env.whole("CHAT_CHATS_PER_MINUTE", 60),
                pending_cancels=MAX_PENDING_CANCELS,
            ),
            session_ttl_seconds=env.whole("CHAT_SESSION_TTL_SECONDS", 7200, least=60),
            max_body_bytes=env.whole("CHAT_MAX_BODY_BYTES", 262_144, least=1),
            max_content_chars=env.whole("CHAT_MAX_CONTENT_CHARS", 32_000, least=1),
            heartbeat_seconds=env.seconds("CHAT_HEARTBEAT_SECONDS", 15),
            deadline_margin_seconds=env.seconds("CHAT_DEADLINE_MARGIN_SECONDS", 5),
            max_concurrency=env.whole("AWS_LAMBDA_MAX_CONCURRENCY", 1, least=1),
            telemetry=_read_telemetry(env),
            retention_days=env.whole("CHAT_RETENTION_DAYS", 0),
            allowed_origins=_read_origins(env),
            models=read_choices(env),
            ai=read_ai(env) if with_ai else None,
        )


def _read_auth(env: Environment) -> AuthSettings:
    mode = env.text("CHAT_AUTH") or "header"
    if mode == "header":
        return AuthSettings(mode)
    if mode != "jwt":
        raise SettingsError("CHAT_AUTH must be header or jwt")
    jwks_url, secret = env.url("CHAT_JWT_JWKS_URL"), env.secret("CHAT_JWT_SECRET")
    if jwks_url is not None and secret is not None:
        raise SettingsError("CHAT_AUTH=jwt needs either CHAT_JWT_JWKS_URL or CHAT_JWT_SECRET, not both")
    issuer = env.required("CHAT_JWT_ISSUER")
    if jwks_url is None and secret is None and not issuer.startswith(("https://", "http://")):
        raise SettingsError("CHAT_JWT_JWKS_URL is missing, and CHAT_JWT_ISSUER is no URL from which to find it")
    default = "HS256" if secret else "RS256,ES256"
    algorithms = tuple(name.strip() for name in (env.text("CHAT_JWT_ALGORITHMS") or default).split(","))
    allowed = (
        {"HS256", "HS384", "HS512"}
        if secret
        else {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
    )
    if unknown := [name for name in algorithms if name not in allowed]:
        raise SettingsError(f"CHAT_JWT_ALGORITHMS: {unknown[0]!r} does not go with this kind of key")
    audience = tuple(name for one in env.required("CHAT_JWT_AUDIENCE").split(",") if (name := one.strip()))
    if not audience:
        raise SettingsError("CHAT_JWT_AUDIENCE names no audience")
    user_claim = env.text("CHAT_JWT_USER_CLAIM") or "sub"
    if not re.fullmatch(r"[!#-\[\]-~]{1,100}", user_claim):
        raise SettingsError("CHAT_JWT_USER_CLAIM must be the name of a claim")
    return AuthSettings(
        mode,
        jwks_url,
        secret,
        algorithms,
        issuer,
        audience,
        user_claim,
        _field_name(env, "CHAT_JWT_HEADER", "Authorization") or "",
        _field_name(env, "CHAT_JWT_COOKIE"),
    )


_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_TAKEN_HEADERS = {"cookie", "host", "content-type", "content-length", "x-user-id", "x-session-id", "last-event-id"}


def _field_name(env: Environment, name: str, default: str | None = None) -> str | None:
    """Return the name of a header or a cookie. Source: RFC 9110, section 5.6.2 (token)."""
    value = env.text(name) or default
    if value is not None and (not _FIELD_NAME.fullmatch(value) or value.lower() in _TAKEN_HEADERS):
        raise SettingsError(f"{name} cannot be the name of what carries the token")
    return value


_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]*[A-Za-z0-9\]](:\*)?")


def _read_origins(env: Environment) -> tuple[str, ...]:
    origins = tuple(name for part in (env.text("CHAT_ALLOWED_ORIGINS") or "").split(",") if (name := part.strip()))
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise SettingsError(f"CHAT_ALLOWED_ORIGINS: {origin!r} is not an origin such as https://chat.example.com")
    if "*" in origins and len(origins) > 1:
        raise SettingsError("CHAT_ALLOWED_ORIGINS: * allows every origin; leave the others out")
    return origins


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LAMBDA_LEVELS = {"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}
"""Lambda's words for levels that Python calls otherwise."""


def _read_telemetry(env: Environment) -> TelemetrySettings:
    # The platform drops what is below its own level; on Lambda with JSON logs that is INFO unless somebody changed it.
    found = [level for name in ("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL") if (level := _read_level(env, name))]
    level = max(found, key=_LEVELS.index, default="INFO")
    return TelemetrySettings(
        service=env.text("POWERTOOLS_SERVICE_NAME") or env.text("AWS_LAMBDA_FUNCTION_NAME") or "aiva",
        namespace=env.text("POWERTOOLS_METRICS_NAMESPACE") or "aiva",
        level=level,
        user_key=_read_user_key(env),
        is_traced=_read_tracing(env),
    )


def _read_tracing(env: Environment) -> bool:
    tracing = env.text("CHAT_TRACING") or "off"
    if tracing not in ("off", "otlp"):
        raise SettingsError("CHAT_TRACING must be off or otlp")
    return tracing == "otlp"


def _read_user_key(env: Environment) -> Secret | None:
    key = env.text("CHAT_USER_HASH_KEY")
    if key is None:
        return None
    if not is_reference(key) and len(key) < MIN_HASH_KEY_CHARS:
        raise SettingsError(f"CHAT_USER_HASH_KEY must have at least {MIN_HASH_KEY_CHARS} characters")
    return Secret(key)


def _read_level(env: Environment, name: str) -> str | None:
    word = env.text(name)
    if word is None:
        return None
    level = _LAMBDA_LEVELS.get(word.upper(), word.upper())
    if level not in _LEVELS:
        raise SettingsError(f"{name} must be DEBUG, INFO, WARN, ERROR or CRITICAL")
    return level
