"""A mistyped setting is named instead of silently not being in force."""

import re
from pathlib import Path

import pytest

from chat.setting_names import FOREIGN, SETTINGS, check_names
from chat.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
GOOD = {"REDIS_URL": "redis://cache", "MYSQL_URL": "mysql://u:p@db/chat"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CHAT_MESSAGE_PER_MINUTE", "CHAT_MESSAGES_PER_MINUTE"),
        ("CHAT_AUHT", "CHAT_AUTH"),
        ("CHAT_MODEL", "CHAT_MODELS"),
        ("CHAT_JWT_ISSUERS", "CHAT_JWT_ISSUER"),
        ("CHAT_HEARTBEAT", "CHAT_HEARTBEAT_SECONDS"),
    ],
)
def test_a_mistyped_setting_is_named_with_what_was_meant(name: str, meant: str):
    with pytest.raises(SettingsError, match=f"{name} is no setting; did you mean {meant}"):
        Settings.read({**GOOD, name: "1"})


def test_what_is_near_to_nothing_is_returned_and_stops_nothing():
    names = ["CHAT_WALLPAPER", "CHAT_URL", "CHAT_MODELS", "CHATTY", "OPENAI_MODLE"]
    assert check_names(names) == ["CHAT_WALLPAPER"]
    Settings.read({**GOOD, "CHAT_WALLPAPER": "blue"})


def test_every_setting_that_is_read_is_known():
    sources = [
        path for folder in ("layers/common/chat", "local", "migrations") for path in (ROOT / folder).rglob("*.py")
    ]
    read = {name for path in sources for name in re.findall(r'"(CHAT_[A-Z_]+)"', path.read_text())}
    template = set(re.findall(r"^ +(CHAT_[A-Z_]+):", (ROOT / "template.yaml").read_text(), re.MULTILINE))
    assert read | template <= SETTINGS | FOREIGN
    assert {"CHAT_AUTH", "CHAT_MODELS", "CHAT_SETTINGS_DIGEST"} <= read | template


def test_no_setting_is_so_near_to_another_that_it_would_be_taken_for_it():
    assert check_names(SETTINGS) == []


@pytest.mark.parametrize("key", ["short", "k" * 31])
def test_a_short_key_of_pseudonyms_is_named_without_being_told(key: str):
    with pytest.raises(SettingsError, match="CHAT_USER_HASH_KEY must have at least 32 characters") as caught:
        Settings.read({**GOOD, "CHAT_USER_HASH_KEY": key})
    assert key not in str(caught.value)
    Settings.read({**GOOD, "CHAT_USER_HASH_KEY": "ssm:key"})
