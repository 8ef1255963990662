"""Traces of answers, received by OTLP from the application on real stores and a real AI's wire."""

import subprocess
import sys
from pathlib import Path

import pytest

from chat.domain.model import new_id
from chat.settings import Settings, SettingsError
from tests.integration.test_contract import Functions, problem
from tests.kit.ai_server import AIServer, say, status
from tests.kit.otlp import OtlpReceiver

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
XRAY = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1"


@pytest.fixture
async def ai():
    async with AIServer() as server:
        server.default = say("the secret answer")
        yield server


@pytest.fixture
def receiver(monkeypatch):
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


@pytest.fixture
async def traced(ai, receiver, embedded_redis, database_url):
    environ = {
        "REDIS_URL": embedded_redis,
        "MYSQL_URL": database_url,
        "OPENAI_BASE_URL": ai.url,
        "CHAT_TRACING": "otlp",
        "POWERTOOLS_SERVICE_NAME": "stream_chat",
    }
    async with Functions(environ, ai) as functions:
        functions.user, functions.phone = f"user-{new_id()}", f"phone-{new_id()}"
        yield functions


async def ask(functions: Functions, **headers: str):
    chat_id = await functions.new_chat({"X-User-Id": functions.user})
    own = {"X-User-Id": functions.user, "X-Session-Id": functions.phone}
    return await functions.stream(chat_id, {"content": "the secret question"}, {**own, **headers})


async def test_an_answer_is_a_span_with_its_stores_and_its_ai_below(traced, ai, receiver):
    await ask(traced)
    spans = {span.name: span for span in receiver.spans()}
    answer = spans["POST /api/chat/{id}/stream"]
    below = {"redis limits", "mysql open answer", "redis register", "chat gpt-4o-mini", "mysql store end"}
    assert below | {"redis release", "redis give back"} == set(spans) - {answer.name}
    assert all(spans[name].parent_id == answer.span_id for name in below)
    assert answer.events == ["first delta"]
    assert answer.attributes["chat.answer.status"] == "completed"
    assert answer.attributes["http.response.status_code"] == 200
    assert spans["chat gpt-4o-mini"].attributes["gen_ai.usage.output_tokens"] == 1
    assert receiver.services == {"stream_chat"}
    told = ai.calls[0].headers["traceparent"].split("-")
    assert told[:3] == ["00", answer.trace_id, spans["chat gpt-4o-mini"].span_id]


async def test_a_caller_s_trace_goes_on(traced, receiver):
    await ask(traced, traceparent=TRACEPARENT)
    spans = receiver.spans()
    assert {span.trace_id for span in spans} == {TRACE}
    assert [span.name for span in spans if span.parent_id == PARENT] == ["POST /api/chat/{id}/stream"]


async def test_x_ray_s_trace_goes_on_and_is_linked_beside_a_callers_own(traced, receiver):
    await ask(traced, **{"x-amzn-trace-id": XRAY})
    assert {span.trace_id for span in receiver.spans()} == {"67891233abcdef012345678912345678"}
    receiver.bodies.clear()
    await ask(traced, **{"x-amzn-trace-id": XRAY, "traceparent": TRACEPARENT})
    assert {span.trace_id for span in receiver.spans()} == {TRACE}
    assert [link for span in receiver.spans() for link in span.links] == ["67891233abcdef012345678912345678"]


async def test_what_was_not_sampled_by_the_caller_is_not_sent(traced, ai, receiver):
    await ask(traced, traceparent=TRACEPARENT.removesuffix("01") + "00")
    assert receiver.spans() == []
    assert ai.calls[0].headers["traceparent"].startswith(f"00-{TRACE}-")


async def test_a_failure_is_an_error_by_its_code(traced, ai, receiver):
    ai.default = status(400)
    await ask(traced)
    spans = {span.name: span for span in receiver.spans()}
    assert spans["POST /api/chat/{id}/stream"].is_error
    assert spans["chat gpt-4o-mini"].is_error


async def test_no_text_and_no_id_of_a_person_is_sent(traced, ai, receiver):
    await ask(traced)
    ai.default = status(500)
    await ask(traced)
    problem(await traced.stream(new_id(), {"content": "the secret question"}), 404, "chat_not_found")
    sent = b"".join(receiver.bodies)
    assert b"POST" in sent
    for secret in ("secret", traced.user, traced.phone, "user-1"):
        assert secret.encode() not in sent


async def test_health_is_not_traced(traced, receiver):
    await traced.ask("stream", "GET", "/health")
    assert receiver.spans() == []


async def test_a_receiver_that_is_away_costs_the_answer_nothing(ai, embedded_redis, sqlite_url, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    environ = {"REDIS_URL": embedded_redis, "MYSQL_URL": sqlite_url, "OPENAI_BASE_URL": ai.url, "CHAT_TRACING": "otlp"}
    async with Functions(environ, ai) as functions:
        functions.user, functions.phone = "user-1", "phone"
        assert "the secret answer" in (await ask(functions)).text


def test_off_nothing_of_it_is_loaded():
    program = (
        "import sys; from chat.settings import Settings; from chat.wiring import stream_chat;"
        "stream_chat(Settings.read({'REDIS_URL': 'redis://r', 'MYSQL_URL': 'sqlite:////tmp/x', 'OPENAI_BASE_URL':"
        " 'http://ai'}, with_ai=True)); print([n for n in sys.modules if n.startswith(('opentelemetry.exporter',"
        " 'opentelemetry.sdk.trace', 'chat.adapters.telemetry.tracing', 'google', 'requests'))])"
    )
    environ = {"PYTHONPATH": "layers/common:packages/lambda-stream/src", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    from chat.wiring import open_tracing

    settings = Settings.read({"REDIS_URL": "redis://r", "MYSQL_URL": "mysql://u@d/c", "CHAT_TRACING": "otlp"})
    monkeypatch.setitem(sys.modules, "chat.adapters.telemetry.tracing", None)
    with pytest.raises(SettingsError, match="TracingLayerArn"):
        open_tracing(settings)
