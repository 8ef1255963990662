"""What is started and how, as data: read once from the environment, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chat.ai_settings import parse_models
from chat.setting_names import check_names
from chat.settings import Settings, SettingsError

DEMO_MODEL = "demo"
_CHAT = "/api/chat/[^/]+"


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """One Lambda function: where its code is, which runtime runs it, which requests are its own."""

    name: str
    folder: Path
    handler: str
    runtime: tuple[str, ...]
    """What Python is given to run; `-P` keeps the folder that it runs in off the path, as on Lambda."""
    routes: tuple[str, ...]
    """Regular expressions; the whole path must match one."""
    timeout_seconds: float
    concurrency: int = 1
    """Requests that one process takes at once; with more than one the runtime enforces deadlines itself."""
    least: int = 1
    """Processes that are started at once; more follow when requests wait."""
    most: int = 4
    queue_seconds: float = 15.0
    """How long a request waits for a process that takes it."""

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:local:000000000000:function:{self.name}"

    def serves(self, path: str) -> bool:
        """Tell whether a request for `path` goes to this function."""
        return any(re.fullmatch(route, path) for route in self.routes)


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole service on one machine."""

    root: Path
    """The project: `layers/common` and `migrations` are in it."""
    state: Path
    """Where data and logs are kept between runs."""
    port: int
    """0 takes a free one."""
    functions: tuple[FunctionPlan, ...]
    environ: Mapping[str, str]
    """What the functions are given, before stores and AI are filled in."""
    settings: Settings
    """What they will read in it; stores and AI that are filled in later are stand-ins."""

    @property
    def page_settings(self) -> dict[str, object]:
        """What the chat page should know before it asks the service anything; nothing secret."""
        ai = self.settings.ai
        return {
            "model": ai.models[0] if ai and self.has_own_ai else DEMO_MODEL,
            "isDemo": not self.has_own_ai,
            "auth": self.settings.auth.mode,
            "tokenHeader": self.environ.get("CHAT_JWT_HEADER", "").strip() or "Authorization",
            "maxContentCharacters": self.settings.max_content_chars,
        }

    @property
    def sign_in(self) -> tuple[str, str, str] | None:
        """Issuer, client and scope with which the page signs in; None where it asks for a token instead."""
        client_id, issuer = self.environ.get("CHAT_PAGE_CLIENT_ID", "").strip(), self.environ.get("CHAT_JWT_ISSUER", "")
        if not client_id or self.settings.auth.mode != "jwt":
            return None
        return issuer.strip(), client_id, self.environ.get("CHAT_PAGE_SCOPE", "").strip() or "openid"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of this machine, beside localhost, under which it answers."""
        named = self.environ.get("CHAT_LOCAL_HOSTS", "").split(",")
        return tuple(host.strip() for host in named if host.strip())

    @property
    def has_own_redis(self) -> bool:
        return bool(self.environ.get("REDIS_URL"))

    @property
    def has_own_mysql(self) -> bool:
        return bool(self.environ.get("MYSQL_URL"))

    @property
    def has_own_ai(self) -> bool:
        return _names_an_ai(self.environ)

    @property
    def unknown_names(self) -> list[str]:
        """Variables that look like settings and are none."""
        return check_names(self.environ)


def read_plan(environ: Mapping[str, str], root: Path, functions: Path, state: Path) -> Plan:
    """Plan the three functions in the folder `functions`.

    Raises:
        SettingsError: a variable is wrong; its name is in the message.
    """
    environ = {name: value.strip() if name in _OURS else value for name, value in environ.items()}
    port = _port(environ.get("PORT", ""))
    settings = _check(environ)
    planned = _functions(root, functions.resolve(), settings.max_concurrency)
    return Plan(root, state.resolve(), port, planned, environ, settings)


_OURS = {"PORT", "REDIS_URL", "MYSQL_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"}
_STAND_INS = {"REDIS_URL": "redis://127.0.0.1", "MYSQL_URL": "sqlite:///chat"}
_DEMO = {"OPENAI_BASE_URL": "http://127.0.0.1"}


def _names_an_ai(environ: Mapping[str, str]) -> bool:
    """Tell whether there is an AI to be asked: a key, an address, or models with providers of their own."""
    if environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"):
        return True
    models = parse_models(environ.get("CHAT_MODELS", "").strip()) or []
    return any(isinstance(model, dict) and (model.get("baseUrl") or model.get("apiKey")) for model in models)


def _port(text: str) -> int:
    if not text:
        return 8000
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise SettingsError("PORT must be a port's number, 0 to 65535")
    return int(text)


def _check(environ: Mapping[str, str]) -> Settings:
    """Refuse what the functions would refuse, and return what they will read."""
    filled = {name: value for name, value in environ.items() if value}
    stand_ins = _STAND_INS if _names_an_ai(environ) else _STAND_INS | _DEMO
    return Settings.read({"AWS_LAMBDA_MAX_CONCURRENCY": "32"} | stand_ins | filled, with_ai=True)


def _functions(root: Path, folder: Path, concurrency: int) -> tuple[FunctionPlan, ...]:
    plain = ("-P", str(root / "local" / "plain_runtime.py"))
    return (
        FunctionPlan(
            "create_chat",
            folder / "create_chat",
            "app.handler",
            plain,
            ("/api/chat/create", "/health"),  # each serves /health; this one never waits for streams
            timeout_seconds=30,
        ),
        FunctionPlan(
            "stream_chat",
            folder / "stream_chat",
            "app.app",
            ("-P", "-m", "lambda_stream"),
            (f"{_CHAT}/stream", "/api/ui/chat", "/api/ui/chat/[^/]+/stream"),
            timeout_seconds=900,
            concurrency=concurrency,
            most=8,
        ),
        FunctionPlan(
            "manage_chats",
            folder / "manage_chats",
            "app.handler",
            plain,
            (
                "/api/chats",
                "/api/models",
                _CHAT,
                f"{_CHAT}/messages",
                f"{_CHAT}/messages/[^/]+/feedback",
            ),
            timeout_seconds=30,
        ),
        FunctionPlan(
            "cancel_stream",
            folder / "cancel_stream",
            "app.handler",
            plain,
            (f"{_CHAT}/cancel",),
            timeout_seconds=30,
            least=2,
        ),
    )
