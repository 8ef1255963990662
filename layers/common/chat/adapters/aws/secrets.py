"""Settings that say where their value is kept, replaced by the value: read once, kept for a while, read anew on demand.

    secretsmanager:NAME          the whole secret
    secretsmanager:NAME#FIELD    one field of a secret that is a JSON object
    ssm:NAME                     a parameter of Systems Manager, decrypted

NAME may be an ARN. boto3 is imported only where a setting is such a reference (docs/deploy.md has its cost). No value
appears in a log, a `repr` or the text of an error here.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from chat.ai_settings import parse_models
from chat.environment import SettingsError, is_reference

REFERABLE = ("REDIS_URL", "MYSQL_URL", "OPENAI_API_KEY", "CHAT_AI_HEADERS", "CHAT_JWT_SECRET", "CHAT_USER_HASH_KEY")
_MODEL_KEY = re.compile(r"CHAT_MODELS\[(\d+)\]\.apiKey")
"""A member of CHAT_MODELS is a setting too."""
MAX_AGE_SECONDS = 900
"""How long a value is used before it is read again, when somebody asks for it."""
RENEW_SECONDS = 10.0
"""A value that was just read anew is not read again for so long, however many logins are refused."""


class Reference(NamedTuple):
    """Where a value is kept."""

    kind: str
    name: str
    field: str | None


class Store(Protocol):
    """What a service of AWS answers, cached by Powertools."""

    def read(self, reference: Reference, fresh: bool) -> str:
        """Return the text that is kept there; `fresh` passes the cache by.

        Raises:
            LookupError: it cannot be read; the message is a short reason.
        """
        ...


def parse_reference(value: str) -> Reference:
    """Take a reference apart.

    Raises:
        ValueError: it names nothing.
    """
    kind, _, place = value.partition(":")
    name, has_field, field = place.partition("#") if kind == "secretsmanager" else (place, "", "")
    if not name or (has_field and not field):
        raise ValueError("it must be secretsmanager:NAME, secretsmanager:NAME#FIELD or ssm:NAME")
    return Reference(kind, name, field or None)


class Secrets:
    """The settings of one environment, with the values that some of them only point to."""

    def __init__(
        self, environ: Mapping[str, str], store: Store | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._environ = environ
        self._store = store
        self._clock = clock
        self._renewed_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return "Secrets('***')"

    def environ(self, with_ai: bool = True) -> Mapping[str, str]:
        """Return the environment with every reference replaced by its value; without any, as it is.

        The keys of CHAT_MODELS are read `with_ai` only: who asks no AI needs none of them.

        Raises:
            SettingsError: one cannot be read; the message names the setting and the place.
        """
        found = {name: self.read(name) for name in REFERABLE if is_reference(self._setting(name))}
        if with_ai and (models := self._resolved_models()) is not None:
            found["CHAT_MODELS"] = models
        return {**self._environ, **found} if found else self._environ

    def read(self, name: str) -> str:
        """Return the value of a setting, at most `MAX_AGE_SECONDS` old.

        Raises:
            SettingsError: it cannot be read.
        """
        return self._value(name, fresh=False)

    def renew(self, name: str) -> str:
        """Return the value of a setting, read now: for when the one at hand was refused.

        Raises:
            SettingsError: it cannot be read.
        """
        last = self._renewed_at.get(name)
        fresh = last is None or self._clock() - last >= RENEW_SECONDS
        value = self._value(name, fresh)
        if fresh:
            self._renewed_at[name] = self._clock()
        return value

    def is_referred(self, name: str) -> bool:
        """Tell whether a setting says where its value is kept."""
        return is_reference(self._setting(name))

    def _resolved_models(self) -> str | None:
        """Return CHAT_MODELS with its keys; None where none of them is a reference."""
        models = self._models()
        keys = {
            number: name for number in range(len(models)) if self.is_referred(name := f"CHAT_MODELS[{number}].apiKey")
        }
        if not keys:
            return None
        return json.dumps([one | {"apiKey": self.read(keys[n])} if n in keys else one for n, one in enumerate(models)])

    def _models(self) -> list[Any]:
        return parse_models(self._environ.get("CHAT_MODELS", "").strip()) or []

    def _setting(self, name: str) -> str:
        if found := _MODEL_KEY.fullmatch(name):
            models, number = self._models(), int(found[1])
            model = models[number] if number < len(models) else None
            key = model.get("apiKey") if isinstance(model, dict) else None
            return key.strip() if isinstance(key, str) else ""
        return self._environ.get(name, "").strip()

    def _value(self, name: str, fresh: bool) -> str:
        setting = self._setting(name)
        if not is_reference(setting):
            return setting
        if self._store is None:
            self._store = _open_store(name, setting)
        try:
            reference = parse_reference(setting)
            value = _field_of(self._store.read(reference, fresh), reference.field)
        except (LookupError, ValueError) as error:
            # The reasons are ours, and `from None` because a cause could carry the text that was read.
            raise SettingsError(f"{name} ({setting}) cannot be read: {error.args[0]}") from None
        if not value.strip():  # it would count as not set, and something else be taken in its place
            raise SettingsError(f"{name} ({setting}) cannot be read: it is empty")
        return value


def _open_store(name: str, setting: str) -> Store:
    try:
        from chat.adapters.aws.parameters import Parameters
    except ImportError:
        reason = "needs boto3, which is not installed; for make run: make aws"
        raise SettingsError(f"{name} ({setting}) {reason}") from None
    return Parameters(MAX_AGE_SECONDS)


def _field_of(text: str, field: str | None) -> str:
    """Return the text itself, or one field of the JSON object that it is."""
    if field is None:
        return text
    try:
        content = json.loads(text)
    except ValueError:
        raise ValueError("the secret is no JSON") from None
    value = content.get(field) if isinstance(content, dict) else None
    if isinstance(value, str):
        return value
    raise ValueError("the secret is no JSON object with a text in this field")
