"""Each provider's settings in docs/operations.md, against a fake that insists on its address, header and refusals."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from chat.domain.errors import FAILURES, FailureCode
from chat.settings import Settings
from tests.kit.ai_client import Asked
from tests.kit.ai_server import DONE, SSE, chunk, event, finish, text

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
STORES = {"REDIS_URL": "redis://localhost", "MYSQL_URL": "sqlite:///chat"}
ANSWER = text("Hello") + text(" world") + finish() + DONE


def documented(provider: str) -> dict[str, str]:
    """Return the variables in the provider's block."""
    found = re.search(rf"\*\*{re.escape(provider)}\.\*\*.*?```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found, provider
    return dict(word.split("=", 1) for word in shlex.split(found[1]))


@dataclass
class Fake:
    """A provider as far as it can be insisted on; what it refuses, it refuses in its own words."""

    url: str
    model: str
    header: tuple[str, str] | None = None
    refused: Mapping[str, object] = field(default_factory=dict)
    """Members of the request that it refuses, and what it says then."""
    refusal: int = 400
    wrong_key: int = 401
    answer: bytes = ANSWER
    calls: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        body = json.loads(request.content)
        assert (request.method, str(request.url)) == ("POST", self.url)
        assert request.headers["content-type"] == "application/json"
        if self.header is not None and not re.fullmatch(self.header[1], request.headers.get(self.header[0], "")):
            return httpx.Response(self.wrong_key, json={"error": {"message": "SECRET: wrong key"}})
        if body["model"] != self.model:
            return httpx.Response(404, json={"error": {"message": "SECRET: no such model"}})
        for member, complaint in self.refused.items():
            if member in body:
                return httpx.Response(self.refusal, json=complaint)
        assert body["stream"] is True
        assert body["messages"][-1]["role"] == "user"
        return httpx.Response(200, headers=SSE, content=self.answer)


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {re.escape(key)}")


def unsupported(member: str, instead: str = "") -> object:
    message = f"Unsupported parameter: '{member}' is not supported with this model.{instead}"
    return {"error": {"message": message, "type": "invalid_request_error", "code": "unsupported_parameter"}}


def extra(member: str) -> object:
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", member], "msg": "Extra inputs are not permitted"}]}


SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKID/[0-9]{8}/eu-west-1/bedrock-mantle/aws4_request, "
    "SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}"
)
FAKES: dict[str, Callable[[], Fake]] = {
    "OpenAI": lambda: Fake(
        "https://api.openai.com/v1/chat/completions",
        "gpt-5-mini",
        bearer("sk-KEY"),
        {"max_tokens": unsupported("max_tokens", " Use 'max_completion_tokens' instead.")},
    ),
    "Azure OpenAI": lambda: Fake(
        "https://resource.openai.azure.com/openai/v1/chat/completions",
        "my-deployment",
        ("api-key", "KEY"),
        {"max_tokens": unsupported("max_tokens", " Use 'max_completion_tokens' instead.")},
        answer=event(chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}])) + ANSWER,
    ),
    "Amazon Bedrock": lambda: Fake(
        "https://bedrock-mantle.eu-west-1.api.aws/openai/v1/chat/completions",
        "openai.gpt-oss-120b",
        ("authorization", SIGNED),
        wrong_key=403,
    ),
    "Google Gemini": lambda: Fake(
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        "gemini-2.5-flash",
        bearer("KEY"),
        wrong_key=400,
    ),
    "Mistral": lambda: Fake(
        "https://api.mistral.ai/v1/chat/completions",
        "mistral-small-latest",
        bearer("KEY"),
        {"stream_options": extra("stream_options"), "max_completion_tokens": extra("max_completion_tokens")},
        refusal=422,
    ),
    "OpenRouter": lambda: Fake(
        "https://openrouter.ai/api/v1/chat/completions",
        "openai/gpt-5-mini",
        bearer("sk-or-KEY"),
        answer=b": OPENROUTER PROCESSING\n\n" + ANSWER,
    ),
    "Groq": lambda: Fake(
        "https://api.groq.com/openai/v1/chat/completions",
        "llama-3.3-70b-versatile",
        bearer("gsk_KEY"),
        answer=event(chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1"})) + ANSWER,
    ),
    "DeepSeek": lambda: Fake(
        "https://api.deepseek.com/v1/chat/completions",
        "deepseek-chat",
        bearer("sk-KEY"),
        answer=b": keep-alive\n\n" * 3 + ANSWER,
    ),
    "Ollama": lambda: Fake("http://localhost:11434/v1/chat/completions", "llama3.2"),
    "vLLM": lambda: Fake("http://localhost:8001/v1/chat/completions", "Qwen/Qwen3-8B", bearer("KEY")),
    "LiteLLM": lambda: Fake("http://localhost:4000/v1/chat/completions", "my-alias", bearer("sk-1234")),
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def asked_of(fake: Fake, environ: Mapping[str, str]) -> Asked:
    settings = Settings.read({**STORES, **environ}, with_ai=True)
    assert settings.ai is not None
    return Asked(settings.ai, httpx.MockTransport(fake))


@pytest.mark.parametrize("provider", FAKES)
async def test_the_documented_settings_get_an_answer(provider: str):
    fake, environ = FAKES[provider](), documented(provider)
    asked = asked_of(fake, environ)
    assert [await asked.text(), await asked.text()] == ["Hello world"] * 2
    assert len(fake.calls) == (3 if fake.refused else 2), "what it refuses is found out once"
    body = json.loads(fake.calls[-1].content)
    assert json.loads(environ.get("CHAT_AI_BODY", "{}")).items() <= body.items()
    for name, value in json.loads(environ.get("CHAT_AI_HEADERS", "{}")).items():
        assert fake.calls[-1].headers[name] == value
    await asked.ai.close()


@pytest.mark.parametrize("provider", [name for name, make in FAKES.items() if make().header])
async def test_a_wrong_key_is_rejected_at_once_and_its_setting_named(
    provider: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDWRONG")
    environ = {
        name: value.replace("KEY", "WRONG").replace("1234", "WRONG") for name, value in documented(provider).items()
    }
    environ["OPENAI_BASE_URL"] = documented(provider).get("OPENAI_BASE_URL", "")
    fake = FAKES[provider]()
    asked = asked_of(fake, environ)
    assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    assert len(fake.calls) == 1
    assert "SECRET" not in caplog.text
    if fake.wrong_key == 401 and fake.header and fake.header[0] == "authorization":
        assert "check OPENAI_API_KEY" in caplog.text
    await asked.ai.close()


@pytest.mark.parametrize("provider", FAKES)
async def test_a_model_that_it_does_not_have_is_rejected(provider: str):
    fake = FAKES[provider]()
    asked = asked_of(fake, {**documented(provider), "OPENAI_MODEL": "no-such-model"})
    assert await asked.collect() == ([], FailureCode.AI_REJECTED)
    assert len(fake.calls) == 1
    await asked.ai.close()


async def test_several_providers_at_once_are_asked_each_at_its_own_address_with_its_own_key():
    found = re.search(r"\*\*Several at once\.\*\*.*?```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found
    environ = dict(word.split("=", 1) for word in shlex.split(found[1]))
    fakes = {"api.openai.com": FAKES["OpenAI"](), "bedrock-mantle.eu-west-1.api.aws": FAKES["Amazon Bedrock"]()}
    settings = Settings.read({**STORES, **environ}, with_ai=True)
    assert settings.ai is not None
    asked = Asked(settings.ai, httpx.MockTransport(lambda request: fakes[request.url.host](request)))
    assert [await asked.text(model) for model in ("gpt-5-mini", "oss")] == ["Hello world"] * 2
    await asked.ai.close()


def test_every_failure_code_has_a_line_that_says_what_to_do():
    lines = re.findall(
        r"^\| `([a-z_]+)` \|(.+?)\|(.+?)\|(.+?)\|$", DOCUMENT.split("## When an answer fails")[1], re.MULTILINE
    )
    assert {code for code, *columns in lines if all(column.strip() for column in columns)} >= set(FAILURES)
