"""Settings are checked at once, and a wrong one is named."""

import pytest

from chat.settings import Secret, Settings, SettingsError

GOOD = {"REDIS_URL": "redis://cache:6379/0", "MYSQL_URL": "mysql://u:p@db:3306/chat", "OPENAI_API_KEY": "sk-secret"}


def test_defaults_are_the_contracts():
    settings = Settings.read(GOOD, with_ai=True)
    assert settings.auth.mode == "header"
    assert (settings.session_ttl_seconds, settings.max_body_bytes, settings.max_content_chars) == (7200, 262144, 32000)
    assert (settings.heartbeat_seconds, settings.deadline_margin_seconds) == (15, 5)
    limits = settings.limits
    assert (limits.active_answers, limits.messages_per_minute, limits.tokens_per_day) == (8, 60, 0)
    ai = settings.ai
    assert ai is not None
    assert (ai.context_tokens, ai.max_output_tokens, ai.max_retries) == (16000, 4096, 2)
    assert (ai.first_token_timeout_seconds, ai.stall_timeout_seconds) == (300, 120)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", ""),
        ("REDIS_URL", "http://cache"),
        ("REDIS_URL", "redis://"),
        ("MYSQL_URL", ""),
        ("MYSQL_URL", "postgres://u:p@db/chat"),
        ("MYSQL_URL", "mysql://u:p@db:port/chat"),
        ("OPENAI_API_KEY", ""),
        ("OPENAI_BASE_URL", "ftp://ai"),
        ("CHAT_AUTH", "basic"),
        ("CHAT_SESSION_TTL_SECONDS", "two hours"),
        ("CHAT_SESSION_TTL_SECONDS", "1"),
        ("CHAT_MAX_BODY_BYTES", "0"),
        ("CHAT_MAX_CONTENT_CHARS", "-1"),
        ("CHAT_CONTEXT_TOKENS", "1.5"),
        ("CHAT_TITLES", "always"),
        ("CHAT_TITLE_MODEL", "unknown"),
        ("CHAT_MAX_OUTPUT_TOKENS", "0"),
        ("CHAT_AI_STALL_TIMEOUT_SECONDS", "nan"),
        ("CHAT_AI_FIRST_TOKEN_TIMEOUT_SECONDS", "inf"),
        ("CHAT_HEARTBEAT_SECONDS", "0"),
        ("CHAT_DEADLINE_MARGIN_SECONDS", "soon"),
        ("CHAT_MAX_ACTIVE_ANSWERS_PER_USER", "-1"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "many"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str):
    with pytest.raises(SettingsError, match=name):
        Settings.read({**GOOD, name: value}, with_ai=True)


def test_origins_are_a_list():
    assert Settings.read(GOOD).allowed_origins == ()
    found = Settings.read({**GOOD, "CHAT_ALLOWED_ORIGINS": "https://a.example, http://localhost:*"}).allowed_origins
    assert found == ("https://a.example", "http://localhost:*")


@pytest.mark.parametrize("value", ["a.example", "https://a.example/", "https://a.example/x", "*,https://a.a", "null"])
def test_what_is_no_origin_is_named(value: str):
    with pytest.raises(SettingsError, match="CHAT_ALLOWED_ORIGINS"):
        Settings.read({**GOOD, "CHAT_ALLOWED_ORIGINS": value})


@pytest.mark.parametrize("value", ["redis://:hunter2@[bad", "memcached://:hunter2@cache"])
def test_a_wrong_secret_is_not_shown(value: str):
    with pytest.raises(SettingsError) as caught:
        Settings.read({**GOOD, "REDIS_URL": value})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_masked_wherever_settings_are_printed():
    printed = repr(Settings.read(GOOD, with_ai=True))
    assert "sk-secret" not in printed
    assert "u:p" not in printed


def test_a_secret_may_be_a_reference():
    settings = Settings.read({**GOOD, "REDIS_URL": "secretsmanager:prod/redis#url", "MYSQL_URL": "ssm:/prod/mysql"})
    assert settings.redis_url == Secret("secretsmanager:prod/redis#url")


def test_a_function_that_asks_no_ai_needs_no_key():
    assert Settings.read({k: GOOD[k] for k in ("REDIS_URL", "MYSQL_URL")}).ai is None


def test_another_ai_needs_no_key():
    ai = Settings.read({**GOOD, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "http://localhost:1/v1/"}, with_ai=True).ai
    assert ai is not None
    [model] = ai.catalog
    assert (model.provider.api_key, model.provider.base_url) == (None, "http://localhost:1/v1")


JWT = {**GOOD, "CHAT_AUTH": "jwt", "CHAT_JWT_ISSUER": "https://issuer", "CHAT_JWT_AUDIENCE": "chat"}
SECRET = "s" * 32


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"CHAT_JWT_ISSUER": "issuer"}, "CHAT_JWT_JWKS_URL"),
        ({"CHAT_JWT_AUDIENCE": " , "}, "CHAT_JWT_AUDIENCE"),
        ({"CHAT_JWT_USER_CLAIM": 'a "quote"'}, "CHAT_JWT_USER_CLAIM"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_JWKS_URL": "https://issuer/keys"}, "CHAT_JWT_SECRET"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_ISSUER": ""}, "CHAT_JWT_ISSUER"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_AUDIENCE": ""}, "CHAT_JWT_AUDIENCE"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_ALGORITHMS": "none"}, "CHAT_JWT_ALGORITHMS"),
        ({"CHAT_JWT_JWKS_URL": "https://issuer/keys", "CHAT_JWT_ALGORITHMS": "HS256"}, "CHAT_JWT_ALGORITHMS"),
        ({"CHAT_JWT_JWKS_URL": "file:///keys"}, "CHAT_JWT_JWKS_URL"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_HEADER": "X Token"}, "CHAT_JWT_HEADER"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_HEADER": "X-User-Id"}, "CHAT_JWT_HEADER"),
        ({"CHAT_JWT_SECRET": SECRET, "CHAT_JWT_COOKIE": "a=b"}, "CHAT_JWT_COOKIE"),
    ],
)
def test_jwt_needs_one_kind_of_key_issuer_and_audience(more: dict[str, str], named: str):
    with pytest.raises(SettingsError, match=named):
        Settings.read({**JWT, **more})


def test_jwt_takes_several_audiences_and_finds_keys_from_the_issuer():
    auth = Settings.read({**JWT, "CHAT_JWT_AUDIENCE": "web, https://api.example ,", "CHAT_JWT_USER_CLAIM": "oid"}).auth
    assert (auth.audience, auth.user_claim) == (("web", "https://api.example"), "oid")
    assert (auth.jwks_url, auth.secret, auth.issuer) == (None, None, "https://issuer")
    assert Settings.read(JWT).auth.user_claim == "sub"


def test_jwt_pins_algorithms_by_the_kind_of_key():
    assert Settings.read({**JWT, "CHAT_JWT_SECRET": SECRET}).auth.algorithms == ("HS256",)
    assert Settings.read({**JWT, "CHAT_JWT_JWKS_URL": "https://i/k"}).auth.algorithms == ("RS256", "ES256")
