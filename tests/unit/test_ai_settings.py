"""Models and their providers as they are set: each is checked at the start, and what is wrong is named."""

import json

import pytest

from chat.adapters.aws.secrets import Reference, Secrets
from chat.ai_settings import AISettings, ModelChoice, ModelSettings, Role
from chat.environment import Secret
from chat.settings import Settings, SettingsError

STORES = {"REDIS_URL": "redis://cache:6379/0", "MYSQL_URL": "mysql://u:p@db:3306/chat"}
GOOD = {**STORES, "OPENAI_API_KEY": "sk-secret"}


def read(**environ: str) -> AISettings:
    settings = Settings.read({**GOOD, **environ}, with_ai=True)
    assert settings.ai is not None
    return settings.ai


def listed(*models: object, **environ: str) -> tuple[ModelSettings, ...]:
    return read(CHAT_MODELS=json.dumps(models), **environ).catalog


def test_without_a_list_there_is_one_model():
    [model] = read(OPENAI_MODEL="gpt-5-mini").catalog
    assert (model.id, model.name, model.body) == ("gpt-5-mini", "gpt-5-mini", {})
    assert (model.provider.base_url, model.provider.api_key) == ("https://api.openai.com/v1", Secret("sk-secret"))


def test_names_are_models_of_one_provider_and_the_first_is_the_default():
    ai = read(CHAT_MODELS=" gpt-5 , gpt-5-mini,", OPENAI_MODEL="other", OPENAI_BASE_URL="https://gateway/v1")
    assert ai.models == ("gpt-5", "gpt-5-mini")
    assert len({model.provider for model in ai.catalog}) == 1


def test_a_model_has_what_it_says_and_the_rest_from_the_shared_settings():
    plain, own = listed(
        {"id": "plain"},
        {
            "id": "fast",
            "label": "Fast",
            "model": "llama-3",
            "baseUrl": "https://groq.example/v1/",
            "apiKey": "gsk",
            "body": {"top_p": 1},
            "headers": {"x-a": "1"},
        },
        CHAT_AI_BODY='{"temperature": 0.2}',
        CHAT_AI_HEADERS='{"x-team": "chat"}',
    )
    assert (plain.name, plain.body) == ("plain", {"temperature": 0.2})
    assert plain.provider.headers == (("x-team", Secret("chat")),)
    assert (own.name, own.body, own.provider.base_url) == ("llama-3", {"top_p": 1}, "https://groq.example/v1")
    assert (own.provider.api_key, own.provider.headers) == (Secret("gsk"), (("x-a", Secret("1")),))
    assert own.provider.key_setting == "CHAT_MODELS[1].apiKey"


def test_clients_choose_from_ids_and_labels_which_need_no_key():
    models = [{"id": "a", "label": "Model A", "apiKey": "ssm:key"}, {"id": "b", "baseUrl": "https://b/v1"}]
    settings = Settings.read({**STORES, "CHAT_MODELS": json.dumps(models)})
    assert settings.models == (ModelChoice("a", "Model A"), ModelChoice("b", "b"))


def test_keys_and_headers_are_masked_where_settings_are_printed():
    printed = repr(listed({"id": "a", "apiKey": "sk-own"}, CHAT_AI_HEADERS='{"api-key": "azure"}'))
    assert not any(secret in printed for secret in ("sk-own", "sk-secret", "azure'"))


def test_a_local_provider_needs_no_key_and_a_null_says_that_another_needs_none():
    local, open_one = listed(
        {"id": "a", "baseUrl": "http://localhost:11434/v1"},
        {"id": "b", "baseUrl": "https://open.example/v1", "apiKey": None},
        OPENAI_API_KEY="",
    )
    assert (local.provider.api_key, open_one.provider.api_key) == (None, None)


@pytest.mark.parametrize(
    ("models", "named"),
    [
        ("[", r"CHAT_MODELS is no JSON"),
        ('{"id": "a"}', "CHAT_MODELS must be"),
        ("[]", "CHAT_MODELS must be"),
        (",", "CHAT_MODELS names no model"),
        ("a,b,a", "CHAT_MODELS names 'a' more than once"),
        ('["a"]', r"CHAT_MODELS\[0\] must be"),
        ('[{"model": "a"}]', r"CHAT_MODELS\[0\] has no id"),
        ('[{"id": "a"}, {"id": "a"}]', "CHAT_MODELS names 'a' more than once"),
        ('[{"id": "a", "apikey": "sk-secret"}]', r"CHAT_MODELS\[0\] has an unknown member 'apikey'"),
        ('[{"id": 1}]', r"CHAT_MODELS\[0\].id must be a string"),
        ('[{"id": "a", "baseUrl": "ftp://x"}]', r"CHAT_MODELS\[0\].baseUrl"),
        ('[{"id": "a", "baseUrl": "https://x/v1/chat/completions"}]', r"CHAT_MODELS\[0\].baseUrl"),
        ('[{"id": "a", "apiKey": null}]', r"CHAT_MODELS\[0\].apiKey is missing|OPENAI_API_KEY"),
        ('[{"id": "a", "apiKey": "Bearer sk-secret"}]', r"CHAT_MODELS\[0\].apiKey must be the key alone"),
        ('[{"id": "a", "body": []}]', r"CHAT_MODELS\[0\].body must be"),
        ('[{"id": "a", "body": {"stream": false}}]', r"CHAT_MODELS\[0\].body may not hold stream"),
        ('[{"id": "a", "headers": {"Host": "x"}}]', r"CHAT_MODELS\[0\].headers may not hold host"),
        ('[{"id": "a", "headers": {"Authorization": "x"}}]', r"CHAT_MODELS\[0\].headers may not hold authorization"),
    ],
)
def test_what_is_wrong_in_the_list_is_named_and_no_secret_is_told(models: str, named: str):
    with pytest.raises(SettingsError, match=named) as caught:
        read(CHAT_MODELS=models)
    assert "sk-secret" not in str(caught.value)


def test_a_model_elsewhere_without_its_key_is_named():
    with pytest.raises(SettingsError, match=r"CHAT_MODELS\[1\].apiKey"):
        Settings.read(
            {
                **STORES,
                "OPENAI_BASE_URL": "http://localhost/v1",
                "CHAT_MODELS": '[{"id": "a"}, {"id": "b", "baseUrl": "https://b.example/v1"}]',
            },
            with_ai=True,
        )


@pytest.mark.parametrize("member", ["messages", "model", "stream", "stream_options"])
def test_the_shared_body_may_not_replace_what_the_service_sends(member: str):
    with pytest.raises(SettingsError, match=f"CHAT_AI_BODY may not hold {member}"):
        read(CHAT_AI_BODY=json.dumps({member: 1}))


@pytest.mark.parametrize(
    "headers",
    [
        '{"Host": "x"}',
        '{"content-length": "1"}',
        '{"Transfer-Encoding": "chunked"}',
        '{"Authorization": "Bearer x"}',
        '{"x-a": "one\\r\\nx-b: two"}',
        '{"x a": "1"}',
        '{"x-a": 1}',
        '["x-a"]',
        "x-a: 1",
        '{"x-a": NaN}',
    ],
)
def test_headers_that_may_not_be_set_are_named(headers: str):
    with pytest.raises(SettingsError, match="CHAT_AI_HEADERS"):
        read(CHAT_AI_HEADERS=headers)


def test_a_header_may_carry_the_authorization_where_there_is_no_key():
    [model] = read(OPENAI_API_KEY="", CHAT_AI_HEADERS='{"authorization": "Basic eA=="}').catalog
    assert model.provider.headers == (("authorization", Secret("Basic eA==")),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", "https://ai.example/v1/chat/completions"),
        ("OPENAI_BASE_URL", "https://ai.example/v1/chat/completions/?api-version=1"),
        ("OPENAI_API_KEY", "Bearer sk-secret"),
        ("OPENAI_API_KEY", "sk-sécret"),
        ("OPENAI_API_KEY", "sk-\u200bsecret"),
        ("OPENAI_API_KEY", "sk-\nsecret"),
    ],
)
def test_what_people_paste_by_mistake_is_named_without_being_told(name: str, value: str):
    with pytest.raises(SettingsError, match=name) as caught:
        read(**{name: value})
    assert "secret" not in str(caught.value)


# Amazon Bedrock


@pytest.mark.parametrize(
    ("base_url", "address", "role"),
    [
        (
            "bedrock",
            "https://bedrock-mantle.eu-west-1.api.aws/openai/v1",
            Role("bedrock-mantle", "eu-west-1", "bedrock-mantle:CreateInference"),
        ),
        (
            "bedrock:eu-central-1",
            "https://bedrock-mantle.eu-central-1.api.aws/openai/v1",
            Role("bedrock-mantle", "eu-central-1", "bedrock-mantle:CreateInference"),
        ),
        (
            "bedrock-runtime:us-gov-west-1",
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com/openai/v1",
            Role("bedrock", "us-gov-west-1", "bedrock:InvokeModelWithResponseStream"),
        ),
    ],
)
def test_bedrock_is_an_address_and_the_functions_role(base_url: str, address: str, role: Role):
    [model] = read(OPENAI_API_KEY="", OPENAI_BASE_URL=base_url, AWS_REGION="eu-west-1").catalog
    assert (model.provider.base_url, model.provider.role, model.provider.api_key) == (address, role, None)


def test_bedrocks_address_can_be_replaced_and_a_key_beside_it_is_used_instead_of_the_role():
    [model] = read(OPENAI_BASE_URL="bedrock:eu-west-1", AWS_BEDROCK_BASE_URL="https://vpce.example/openai/v1/").catalog
    assert model.provider.base_url == "https://vpce.example/openai/v1"
    assert (model.provider.api_key, model.provider.role) == (Secret("sk-secret"), None)


def test_the_key_of_another_service_is_not_sent_to_bedrock():
    _, bedrock, keyed = listed(
        {"id": "gpt"},
        {"id": "gpt-oss", "baseUrl": "bedrock:eu-west-1"},
        {"id": "keyed", "baseUrl": "bedrock:eu-west-1", "apiKey": "ABSK"},
    )
    assert bedrock.provider.api_key is None
    assert bedrock.provider.role is not None
    assert (keyed.provider.api_key, keyed.provider.role) == (Secret("ABSK"), None)


@pytest.mark.parametrize("base_url", ["bedrock", "bedrock-runtime", "bedrock:Frankfurt", "bedrock:x/../y"])
def test_bedrock_needs_a_region(base_url: str):
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL"):
        read(OPENAI_BASE_URL=base_url)


# References


class Store:
    def __init__(self) -> None:
        self.read_names: list[str] = []

    def read(self, reference: Reference, fresh: bool) -> str:
        self.read_names.append(reference.name)
        return f"value of {reference.name}{' now' if fresh else ''}"


def test_a_models_key_may_be_a_reference_and_is_read_anew_by_the_name_of_its_setting():
    models = [{"id": "a", "apiKey": "ssm:one"}, {"id": "b"}, {"id": "c", "apiKey": "secretsmanager:two"}]
    secrets = Secrets({**GOOD, "CHAT_MODELS": json.dumps(models)}, Store())
    ai = Settings.read(secrets.environ(), with_ai=True).ai
    assert ai is not None
    keys = [model.provider.api_key for model in ai.catalog]
    assert keys == [Secret("value of one"), Secret("sk-secret"), Secret("value of two")]
    assert ai.catalog[2].provider.key_setting == "CHAT_MODELS[2].apiKey"
    assert secrets.renew("CHAT_MODELS[2].apiKey") == "value of two now"
    assert not secrets.is_referred("CHAT_MODELS[1].apiKey")


def test_who_asks_no_ai_reads_no_models_key():
    store = Store()
    secrets = Secrets({**STORES, "CHAT_MODELS": '[{"id": "a", "apiKey": "ssm:one"}]'}, store)
    Settings.read(secrets.environ(with_ai=False))
    assert store.read_names == []


def test_headers_may_be_a_secret_as_a_whole():
    class Headers(Store):
        def read(self, reference: Reference, fresh: bool) -> str:
            return '{"api-key": "azure"}'

    environ = Secrets({**STORES, "CHAT_AI_HEADERS": "ssm:headers"}, Headers()).environ()
    ai = Settings.read(environ, with_ai=True).ai
    assert ai is not None
    assert ai.catalog[0].provider.headers == (("api-key", Secret("azure")),)
