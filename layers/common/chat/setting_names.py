"""The names of all settings that begin with CHAT_, so that a mistyped one is found."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chat.environment import SettingsError

SETTINGS = frozenset(
    f"CHAT_{name}"
    for name in (
        *("AI_BODY", "AI_FIRST_TOKEN_TIMEOUT_SECONDS", "AI_HEADERS", "AI_MAX_RETRIES", "AI_STALL_TIMEOUT_SECONDS"),
        *("AI_THINK_TAGS", "ALLOWED_ORIGINS", "AUTH", "CHATS_PER_MINUTE", "CONTEXT_TOKENS", "DEADLINE_MARGIN_SECONDS"),
        *("HEARTBEAT_SECONDS", "JWT_ALGORITHMS", "JWT_AUDIENCE", "JWT_COOKIE", "JWT_HEADER", "JWT_ISSUER"),
        *("JWT_JWKS_URL", "JWT_SECRET", "JWT_USER_CLAIM", "LOCAL_HOSTS", "MAX_ACTIVE_ANSWERS_PER_USER"),
        *("MAX_BODY_BYTES", "MAX_CONTENT_CHARS", "MAX_OUTPUT_TOKENS", "MAX_STREAMS_PER_USER", "MESSAGES_PER_MINUTE"),
        *("MODELS", "PAGE_CLIENT_ID", "PAGE_SCOPE", "RETENTION_DAYS", "SESSION_TTL_SECONDS", "SETTINGS_DIGEST"),
        *("TITLES", "TITLE_MODEL"),
        *("TOKENS_PER_DAY", "TRACING", "USER_HASH_KEY"),
    )
)
"""Those that one function or another reads, with `make run`'s and the template's own."""
FOREIGN = frozenset({"CHAT_ID", "CHAT_TEST_RUN", "CHAT_TOKEN", "CHAT_URL"})
"""Read by clients and tests: whoever tries them in the same terminal has set no setting."""
_CUTOFF = 0.7


def check_names(names: Iterable[str]) -> list[str]:
    """Return the names that begin with CHAT_ and are no setting.

    Raises:
        SettingsError: one of them is so near to a setting that it must have been meant.
    """
    unknown = sorted(name for name in names if re.fullmatch("CHAT_[A-Z0-9_]+", name) and name not in SETTINGS | FOREIGN)
    for name in unknown:
        if (meant := _nearest(name.removeprefix("CHAT_"))) is not None:
            raise SettingsError(f"{name} is no setting; did you mean CHAT_{meant}?")
    return unknown


def _nearest(name: str) -> str | None:
    from difflib import get_close_matches  # here, because a cold start rarely needs it

    known = sorted(setting.removeprefix("CHAT_") for setting in SETTINGS)
    longer = [setting for setting in known if setting.startswith(f"{name}_")]
    return next(iter(longer or get_close_matches(name, known, n=1, cutoff=_CUTOFF)), None)
