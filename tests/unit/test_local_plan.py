from pathlib import Path

import pytest

from chat.settings import SettingsError
from local.plan import read_plan


def plan_of(**environ):
    return read_plan(environ, Path("/project"), Path("/project/functions"), Path("/project/.local"))


def serving(path):
    return [one.name for one in plan_of().functions if one.serves(path)]


def test_with_an_empty_environment_everything_comes_along():
    plan = plan_of()
    assert plan.port == 8000
    assert not (plan.has_own_redis or plan.has_own_mysql or plan.has_own_ai)


def test_what_the_environment_names_is_not_replaced():
    plan = plan_of(REDIS_URL="redis://there", MYSQL_URL="mysql://u:p@there/db", OPENAI_API_KEY="key")
    assert plan.has_own_redis and plan.has_own_mysql and plan.has_own_ai
    assert plan_of(OPENAI_BASE_URL="http://there/v1").has_own_ai


def test_models_with_providers_of_their_own_take_the_demos_place():
    models = '[{"id": "a", "baseUrl": "https://a/v1", "apiKey": "k"}]'
    assert plan_of(CHAT_MODELS=models).has_own_ai
    assert not plan_of(CHAT_MODELS="a,b").has_own_ai, "names alone say nothing of who answers"


def test_what_looks_like_a_setting_and_is_none_is_told():
    assert plan_of(CHAT_WALLPAPER="blue").unknown_names == ["CHAT_WALLPAPER"]


def test_an_empty_variable_counts_as_none():
    plan = plan_of(PORT="", REDIS_URL=" ", MYSQL_URL="", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert plan.port == 8000
    assert not (plan.has_own_redis or plan.has_own_mysql or plan.has_own_ai)


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "8000.0", "８０００"])
def test_a_port_that_is_none_is_named(port):
    with pytest.raises(SettingsError, match="PORT"):
        plan_of(PORT=port)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://there"),
        ("MYSQL_URL", "nowhere"),
        ("OPENAI_BASE_URL", "ftp://there"),
        ("OPENAI_BASE_URL", "http://there/v1/chat/completions"),
        ("OPENAI_BASE_URL", "bedrock"),
        ("OPENAI_API_KEY", "Bearer sk-1"),
        ("CHAT_MODELS", '[{"id": "a"}, {"id": "b", "apiKey": null, "baseUrl": "ftp://there"}]'),
        ("CHAT_AUTHS", "jwt"),
        ("CHAT_AUTH", "none"),
        ("CHAT_HEARTBEAT_SECONDS", "soon"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "0"),
    ],
)
def test_a_setting_that_a_function_would_refuse_is_refused_before_anything_starts(name, value):
    with pytest.raises(SettingsError, match=name):
        plan_of(**{name: value})


def test_the_page_is_told_what_it_should_know_and_no_secret():
    assert plan_of().page_settings == {
        "model": "demo",
        "isDemo": True,
        "auth": "header",
        "maxContentCharacters": 32_000,
        "tokenHeader": "Authorization",
    }
    told = plan_of(OPENAI_API_KEY="sk-secret", OPENAI_MODEL="large", CHAT_MAX_CONTENT_CHARS="10").page_settings
    assert (told["model"], told["isDemo"], told["maxContentCharacters"]) == ("large", False, 10)
    assert "secret" not in str(told)


def test_each_route_has_one_function():
    assert serving("/api/chat/create")[0] == "create_chat"  # the first one counts
    assert serving("/api/chat/0197") == serving("/api/chats") == serving("/api/models") == ["manage_chats"]
    assert serving("/api/chat/0197/messages") == serving("/api/chat/0/messages/1/feedback") == ["manage_chats"]
    assert serving("/api/chat/0197/stream") == ["stream_chat"]
    assert serving("/api/chat/0197/cancel") == ["cancel_stream"]
    assert serving("/health") == ["create_chat"]  # where it waits behind no stream
    assert serving("/api/chat/create/stream") == ["stream_chat"]


@pytest.mark.parametrize(
    "path", ["/", "/api/chat", "/api/chat/create/", "/api/chat/a/b/stream", "/healthy", "/x/health"]
)
def test_other_paths_have_none(path):
    assert serving(path) == []


def test_streams_share_a_process_as_many_as_is_said():
    def concurrency(**environ):
        return {one.name: one.concurrency for one in plan_of(**environ).functions}

    assert concurrency() == {"create_chat": 1, "stream_chat": 32, "cancel_stream": 1, "manage_chats": 1}
    assert concurrency(AWS_LAMBDA_MAX_CONCURRENCY="64")["stream_chat"] == 64
