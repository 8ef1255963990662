"""Which models there are, who provides each, and how they are asked. docs/operations.md has settings for providers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, cast
from urllib.parse import urlsplit

from chat.environment import Environment, Secret, SettingsError, check_url, is_reference

DEFAULT_BASE_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
MAX_ID_CHARS = 200
"""What the column of an answer's model takes."""
RESERVED_MEMBERS = frozenset({"messages", "model", "stream", "stream_options"})
"""Of a request's body: these are the service's own."""
RESERVED_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "host"),
        *("connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
MODEL_MEMBERS = frozenset({"id", "label", "model", "baseUrl", "apiKey", "body", "headers"})


class BedrockService(NamedTuple):
    """One of the two addresses at which Amazon Bedrock speaks Chat Completions.

    Source: contract, section 10; Amazon Bedrock user guide, "Generate responses using OpenAI APIs".
    """

    signing_name: str
    address: str
    right: str
    """What the role needs to be allowed."""


BEDROCK_SERVICES = {
    "bedrock": BedrockService(
        "bedrock-mantle", "https://bedrock-mantle.{region}.api.aws/openai/v1", "bedrock-mantle:CreateInference"
    ),
    "bedrock-runtime": BedrockService(
        "bedrock",
        "https://bedrock-runtime.{region}.amazonaws.com/openai/v1",
        "bedrock:InvokeModelWithResponseStream",
    ),
}


class Role(NamedTuple):
    """Requests are signed with the credentials of the role that the process runs under."""

    signing_name: str
    region: str
    right: str


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """A service that is asked, and what it is shown. Models of equal settings share connections and key; no others."""

    base_url: str
    """Without a slash at the end."""
    api_key: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    key_setting: str = "OPENAI_API_KEY"
    """Where the key was set."""
    role: Role | None = None
    """Only where there is no key."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model that clients may choose."""

    id: str
    """What clients name and see."""
    provider: ProviderSettings
    name: str
    """What the provider is asked for."""
    body: Mapping[str, object] = field(default_factory=dict)
    """Further members of each request."""


class ModelChoice(NamedTuple):
    """What clients are told of a model."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class AISettings:
    """Which AIs are asked, how much of them, and how long they may be silent."""

    catalog: tuple[ModelSettings, ...]
    """The first is the default."""
    context_tokens: int
    max_output_tokens: int
    first_token_timeout_seconds: float
    stall_timeout_seconds: float
    max_retries: int
    think_tags: bool = True
    """What stands in `<think>` at the beginning of an answer is reasoning."""
    writes_titles: bool = False
    """Chats get their titles from an AI instead of from their first message."""
    title_model: str | None = None
    """The id of the model that is asked for titles; None for the one that answers."""

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the models, the default first."""
        return tuple(model.id for model in self.catalog)


def read_ai(env: Environment) -> AISettings:
    """Read and check all that asks an AI.

    Raises:
        SettingsError: the first variable, or member of CHAT_MODELS, that is missing or wrong.
    """
    catalog = _read_catalog(env)
    titles = env.text("CHAT_TITLES") or "first-message"
    if titles not in ("first-message", "ai"):
        raise SettingsError("CHAT_TITLES must be first-message or ai")
    title_model = env.text("CHAT_TITLE_MODEL")
    if title_model not in (None, *(model.id for model in catalog)):
        raise SettingsError("CHAT_TITLE_MODEL is none of the models in CHAT_MODELS")
    return AISettings(
        catalog=catalog,
        context_tokens=env.whole("CHAT_CONTEXT_TOKENS", 16_000, least=1),
        max_output_tokens=env.whole("CHAT_MAX_OUTPUT_TOKENS", 4096, least=1),
        first_token_timeout_seconds=env.seconds("CHAT_AI_FIRST_TOKEN_TIMEOUT_SECONDS", 300),
        stall_timeout_seconds=env.seconds("CHAT_AI_STALL_TIMEOUT_SECONDS", 120),
        max_retries=env.whole("CHAT_AI_MAX_RETRIES", 2),
        think_tags=env.switch("CHAT_AI_THINK_TAGS", True),
        writes_titles=titles == "ai",
        title_model=title_model,
    )


def read_choices(env: Environment) -> tuple[ModelChoice, ...]:
    """Return the models that clients may choose, the default first; needs no key.

    Raises:
        SettingsError: CHAT_MODELS is wrong.
    """
    return tuple(ModelChoice(_id(one, place), _label(one, place)) for one, place in _entries(env))


def parse_models(text: str) -> list[object] | None:
    """Return what is in CHAT_MODELS when it is a JSON list; None when it is names.

    Raises:
        SettingsError: it is neither.
    """
    if not text.startswith(("[", "{")):
        return None
    models = _parse_json("CHAT_MODELS", text)
    if not isinstance(models, list) or not models:
        raise SettingsError("CHAT_MODELS must be names separated by commas, or a JSON list of models")
    return models


_Entry = tuple[Mapping[str, object], str]
"""A model as it was written, and what it is called in complaints."""


def _entries(env: Environment) -> list[_Entry]:
    text = env.text("CHAT_MODELS")
    if text is None:
        return [({"id": env.text("OPENAI_MODEL") or DEFAULT_MODEL}, "OPENAI_MODEL")]
    models = parse_models(text)
    if models is None:
        names = [name for part in text.split(",") if (name := part.strip())]
        if not names:
            raise SettingsError("CHAT_MODELS names no model")
        models = [{"id": name} for name in names]
    entries = [_entry(model, f"CHAT_MODELS[{number}]") for number, model in enumerate(models)]
    ids = [_id(*entry) for entry in entries]
    for one in ids:
        if ids.count(one) > 1:
            raise SettingsError(f"CHAT_MODELS names {one!r} more than once")
    return entries


def _entry(model: object, place: str) -> _Entry:
    if not isinstance(model, dict):
        raise SettingsError(f"{place} must be a JSON object")
    if unknown := sorted(model.keys() - MODEL_MEMBERS):
        known = ", ".join(sorted(MODEL_MEMBERS))
        raise SettingsError(f"{place} has an unknown member {unknown[0]!r}; there are: {known}")
    return model, place


def _id(model: Mapping[str, object], place: str) -> str:
    found = _text(model, "id", place)
    if found is None:
        raise SettingsError(f"{place} has no id")
    if len(found) > MAX_ID_CHARS or not found.isprintable():
        raise SettingsError(f"{place}.id must be at most {MAX_ID_CHARS} printable characters")
    return found


def _label(model: Mapping[str, object], place: str) -> str:
    return _text(model, "label", place) or _id(model, place)


def _text(model: Mapping[str, object], member: str, place: str) -> str | None:
    value = model.get(member)
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"{place}.{member} must be a string")
    return (value or "").strip() or None


def _read_catalog(env: Environment) -> tuple[ModelSettings, ...]:
    body = _body_of("CHAT_AI_BODY", _parse_json("CHAT_AI_BODY", env.text("CHAT_AI_BODY") or "{}"))
    headers = env.text("CHAT_AI_HEADERS") or "{}"
    shared_headers = {} if is_reference(headers) else _parse_json("CHAT_AI_HEADERS", headers)
    catalog = []
    for entry, place in _entries(env):
        found_headers, header_place = entry.get("headers"), f"{place}.headers"
        if found_headers is None:
            found_headers, header_place = shared_headers, "CHAT_AI_HEADERS"
        own_body = entry.get("body")
        catalog.append(
            ModelSettings(
                id=_id(entry, place),
                provider=_provider(env, entry, place, _headers_of(header_place, found_headers), header_place),
                name=_text(entry, "model", place) or _id(entry, place),
                body=body if own_body is None else _body_of(f"{place}.body", own_body),
            )
        )
    return tuple(catalog)


def _provider(
    env: Environment, entry: Mapping[str, object], place: str, headers: tuple[tuple[str, Secret], ...], from_: str
) -> ProviderSettings:
    own_url = _text(entry, "baseUrl", place)
    base_url = own_url or env.text("OPENAI_BASE_URL") or DEFAULT_BASE_URL
    url_setting = f"{place}.baseUrl" if own_url else "OPENAI_BASE_URL"
    has_own_key = "apiKey" in entry
    is_bedrock = base_url.partition(":")[0] in BEDROCK_SERVICES
    key_setting = f"{place}.apiKey" if has_own_key else "OPENAI_API_KEY"
    if has_own_key:
        key = _text(entry, "apiKey", place)
    else:  # a key of another service is none for Bedrock, and the role needs none
        key = None if is_bedrock and own_url else env.text("OPENAI_API_KEY")
    if key is not None:
        _check_key(key_setting, key)
    if key is not None and any(name.lower() == "authorization" for name, _ in headers):
        raise SettingsError(f"{from_} may not hold authorization beside a key ({key_setting})")
    api_key = Secret(key) if key is not None else None
    if is_bedrock:
        address, role = _bedrock(env, base_url, url_setting)
        return ProviderSettings(address, api_key, headers, key_setting, role if key is None else None)
    _check_base_url(url_setting, base_url)
    is_public = own_url is not None and own_url.startswith("https:") and not has_own_key
    is_openai = own_url is None and env.text("OPENAI_BASE_URL") is None
    if key is None and not headers and (is_public or is_openai):
        missing = "OPENAI_API_KEY is not set" if place == "OPENAI_MODEL" else f"{place}.apiKey is missing"
        raise SettingsError(missing)
    return ProviderSettings(base_url.rstrip("/"), api_key, headers, key_setting)


def _check_base_url(setting: str, url: str) -> None:
    check_url(setting, url, ("http", "https"))
    if urlsplit(url).path.rstrip("/").endswith("/chat/completions"):
        raise SettingsError(f"{setting} must not end in /chat/completions: that is added to it")


def _bedrock(env: Environment, base_url: str, setting: str) -> tuple[str, Role]:
    """Return where Bedrock is asked, and how requests are signed."""
    kind, _, region = base_url.partition(":")
    region = region or env.text("AWS_REGION") or env.text("AWS_DEFAULT_REGION") or ""
    if not region:
        raise SettingsError(f"{setting}={kind} needs a region: AWS_REGION, or {kind}:eu-central-1")
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
        raise SettingsError(f"{setting}: {region!r} is no region of AWS")
    service = BEDROCK_SERVICES[kind]
    address = env.url("AWS_BEDROCK_BASE_URL") or service.address.format(region=region)
    _check_base_url("AWS_BEDROCK_BASE_URL", address)
    return address.rstrip("/"), Role(service.signing_name, region, service.right)


def _check_key(setting: str, key: str) -> None:
    if is_reference(key):
        return
    if key.lower().startswith("bearer "):
        raise SettingsError(f"{setting} must be the key alone, without Bearer before it")
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{setting} holds a character that no key has: outside ASCII, or a control character")


def _parse_json(setting: str, text: str) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # the reason of a JSONDecodeError holds nothing of the text
        reason = f": {error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsError(f"{setting} is no JSON{reason}") from None


def _body_of(setting: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(f"{setting} must be a JSON object")
    if reserved := sorted(RESERVED_MEMBERS & value.keys()):
        raise SettingsError(f"{setting} may not hold {reserved[0]}")
    return cast(Mapping[str, object], value)


def _headers_of(setting: str, value: object) -> tuple[tuple[str, Secret], ...]:
    if not isinstance(value, dict):
        raise SettingsError(f"{setting} must be a JSON object")
    found = []
    for name, text in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):  # RFC 9110, section 5.6.2
            raise SettingsError(f"{setting}: {name!r} is not the name of a header")
        if name.lower() in RESERVED_HEADERS:
            raise SettingsError(f"{setting} may not hold {name.lower()}")
        if not isinstance(text, str):
            raise SettingsError(f"{setting}: the value of {name} must be a string")
        if not (text.isascii() and text.isprintable()):
            raise SettingsError(f"{setting}: {name} holds a line feed or another character that no header may have")
        found.append((name, Secret(text)))
    return tuple(found)
