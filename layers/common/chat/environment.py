"""Typed access to an environment. What is missing or wrong is named; a secret's value is never told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


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


class Environment:
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
            check_url(name, value, schemes)
        return Secret(value)

    def url(self, name: str, default: str | None = None) -> str | None:
        value = self.text(name) or default
        if value is not None:
            check_url(name, value, ("http", "https"))
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


def check_url(name: str, value: str, schemes: tuple[str, ...]) -> None:
    """Check that a setting is a URL with one of these schemes and a place.

    Raises:
        SettingsError: it is not.
    """
    try:
        parts = urlsplit(value)
        has_place = bool(parts.path.strip("/") if parts.scheme in ("sqlite", "unix") else parts.hostname)
        _ = parts.port if not parts.scheme.endswith("+sentinel") else None  # several hosts, each with a port
    except ValueError:
        raise SettingsError(f"{name} is not a URL") from None
    if parts.scheme not in schemes or not has_place:
        raise SettingsError(f"{name} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")
