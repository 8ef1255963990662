"""Every setting, read once from an environment and checked; a wrong or missing one is named. Nothing else reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

MAX_PENDING_CANCELS = 32
"""Of one user; more than anyone needs who sends messages and cancels them before they arrive."""

T = TypeVar("T")

MAX_MODEL_CHARS = 200
"""What the column takes."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable, never its value when that is a secret."""


class Secret:
    """A setting that must not be shown: masked wherever it is printed."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class AISettings:
    """Which AI is asked, how much of it, and how long it may be silent."""

    api_key: Secret | None
    base_url: str
    models: tuple[str, ...]
    """What clients may choose from; the first is the default."""
    context_tokens: int
    max_output_tokens: int
    first_token_timeout_seconds: float
    stall_timeout_seconds: float
    max_retries: int
    think_tags: bool = True
    """What stands in `<think>` at the beginning of an answer is reasoning."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers prove who they are."""

    mode: str
    jwks_url: str | None = None
    secret: Secret | None = None
    algorithms: tuple[str, ...] = ()
    issuer: str | None = None
    audience: str | None = None


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
    allowed_origins: tuple[str, ...] = ()
    """Other origins whose pages may call: exact, with `:*` for any port, or `*` alone."""
    ai: AISettings | None = field(default=None)

    @classmethod
    def read(cls, environ: Mapping[str, str], with_ai: bool = False) -> Settings:
        """Read and check everything at once.

        Raises:
            SettingsError: the first variable that is missing or wrong.
        """
        env = _Environment(environ)
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
            allowed_origins=_read_origins(env),
            ai=_read_ai(env) if with_ai else None,
        )


class _Environment:
    """Typed access to an environment; an empty value counts as missing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise SettingsError(f"{name} is not set")
        return value

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        return None if value is None else Secret(value)

    def secret_url(self, name: str, schemes: tuple[str, ...]) -> Secret:
        value = self.required(name)
        if not is_reference(value):
            _check_url(name, value, schemes)
        return Secret(value)

    def url(self, name: str, default: str | None = None) -> str | None:
        value = self.text(name) or default
        if value is not None:
            _check_url(name, value, ("http", "https"))
        return value

    def whole(self, name: str, default: int, least: int = 0) -> int:
        return self._number(name, int, default, least, "a whole number")

    def seconds(self, name: str, default: float) -> float:
        return self._number(name, float, default, 0.001, "a number of seconds")

    def switch(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("on", "off", "true", "false", "1", "0"):
            raise SettingsError(f"{name} must be on or off")
        return value.lower() in ("on", "true", "1")

    def _number(self, name: str, kind: Callable[[str], T], default: T, least: float, what: str) -> T:
        value = self.text(name)
        if value is None:
            return default
        try:
            number = kind(value)
        except ValueError:
            raise SettingsError(f"{name} is not {what}") from None
        if not least <= number < 1e12:  # type: ignore[operator]  # T is int or float; also refuses nan and inf
            raise SettingsError(f"{name} must be at least {least:g}")
        return number


def is_reference(value: str) -> bool:
    """Tell whether a setting says where its value is kept instead of being the value."""
    return value.startswith(("secretsmanager:", "ssm:"))


def _check_url(name: str, value: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(value)
        has_place = bool(parts.path.strip("/") if parts.scheme in ("sqlite", "unix") else parts.hostname)
        _ = parts.port if not parts.scheme.endswith("+sentinel") else None  # several hosts, each with a port
    except ValueError:
        raise SettingsError(f"{name} is not a URL") from None
    if parts.scheme not in schemes or not has_place:
        raise SettingsError(f"{name} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")


def _read_auth(env: _Environment) -> AuthSettings:
    mode = env.text("CHAT_AUTH") or "header"
    if mode == "header":
        return AuthSettings(mode)
    if mode != "jwt":
        raise SettingsError("CHAT_AUTH must be header or jwt")
    jwks_url, secret = env.url("CHAT_JWT_JWKS_URL"), env.secret("CHAT_JWT_SECRET")
    if (jwks_url is None) == (secret is None):
        raise SettingsError("CHAT_AUTH=jwt needs either CHAT_JWT_JWKS_URL or CHAT_JWT_SECRET")
    default = "HS256" if secret else "RS256,ES256"
    algorithms = tuple(name.strip() for name in (env.text("CHAT_JWT_ALGORITHMS") or default).split(","))
    allowed = (
        {"HS256", "HS384", "HS512"}
        if secret
        else {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
    )
    if unknown := [name for name in algorithms if name not in allowed]:
        raise SettingsError(f"CHAT_JWT_ALGORITHMS: {unknown[0]!r} does not go with this kind of key")
    return AuthSettings(
        mode, jwks_url, secret, algorithms, env.required("CHAT_JWT_ISSUER"), env.required("CHAT_JWT_AUDIENCE")
    )


_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]*[A-Za-z0-9\]](:\*)?")


def _read_origins(env: _Environment) -> tuple[str, ...]:
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


def _read_telemetry(env: _Environment) -> TelemetrySettings:
    # The platform drops what is below its own level; on Lambda with JSON logs that is INFO unless somebody changed it.
    found = [level for name in ("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL") if (level := _read_level(env, name))]
    level = max(found, key=_LEVELS.index, default="INFO")
    return TelemetrySettings(
        service=env.text("POWERTOOLS_SERVICE_NAME") or env.text("AWS_LAMBDA_FUNCTION_NAME") or "aiva",
        namespace=env.text("POWERTOOLS_METRICS_NAMESPACE") or "aiva",
        level=level,
        user_key=env.secret("CHAT_USER_HASH_KEY"),
    )


def _read_level(env: _Environment, name: str) -> str | None:
    word = env.text(name)
    if word is None:
        return None
    level = _LAMBDA_LEVELS.get(word.upper(), word.upper())
    if level not in _LEVELS:
        raise SettingsError(f"{name} must be DEBUG, INFO, WARN, ERROR or CRITICAL")
    return level


def _read_models(env: _Environment) -> tuple[str, ...]:
    names = [name for part in (env.text("CHAT_MODELS") or "").split(",") if (name := part.strip())]
    if not names:
        return (env.text("OPENAI_MODEL") or "gpt-4o-mini",)
    for name in names:
        if len(name) > MAX_MODEL_CHARS:
            raise SettingsError(f"CHAT_MODELS: a name has more than {MAX_MODEL_CHARS} characters")
        if names.count(name) > 1:
            raise SettingsError(f"CHAT_MODELS names {name!r} more than once")
    return tuple(names)


def _read_ai(env: _Environment) -> AISettings:
    base_url = env.url("OPENAI_BASE_URL", "https://api.openai.com/v1") or ""
    api_key = env.secret("OPENAI_API_KEY")
    if api_key is None and env.text("OPENAI_BASE_URL") is None:
        raise SettingsError("OPENAI_API_KEY is not set")
    return AISettings(
        api_key=api_key,
        base_url=base_url.rstrip("/"),
        models=_read_models(env),
        context_tokens=env.whole("CHAT_CONTEXT_TOKENS", 16_000, least=1),
        max_output_tokens=env.whole("CHAT_MAX_OUTPUT_TOKENS", 4096, least=1),
        first_token_timeout_seconds=env.seconds("CHAT_AI_FIRST_TOKEN_TIMEOUT_SECONDS", 300),
        stall_timeout_seconds=env.seconds("CHAT_AI_STALL_TIMEOUT_SECONDS", 120),
        max_retries=env.whole("CHAT_AI_MAX_RETRIES", 2),
        think_tags=env.switch("CHAT_AI_THINK_TAGS", True),
    )
