"""Amazon Bedrock by the role: what is signed is checked by botocore on the other side, as AWS would."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chat.adapters.llm.bedrock_role import NO_CREDENTIALS, BedrockRole
from chat.ai_settings import BEDROCK_SERVICES, Role
from chat.domain.errors import AnswerFailed, FailureCode
from chat.environment import SettingsError
from tests.kit.ai_client import TRANSPORTS, TURNS, Asked, asking
from tests.kit.ai_server import JSON, AIServer, Call, say, status

ROLE = Role("bedrock-mantle", "eu-west-1", BEDROCK_SERVICES["bedrock"].right)
FIRST, SECOND = Credentials("AKIDFIRST", "secret-1", "token-1"), Credentials("AKIDSECOND", "secret-2", "token-2")


def is_signed(call: Call, credentials: Credentials, role: Role = ROLE) -> bool:
    """Sign what arrived once more and compare."""
    sent = call.headers["authorization"]
    names = sent.split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: call.headers[name] for name in names}
    url = f"http://{call.headers['host']}{call.path}"
    request = AWSRequest(call.method, url, data=call.body, headers=headers)
    request.context["timestamp"] = call.headers["x-amz-date"]
    signer = SigV4Auth(credentials, role.signing_name, role.region)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    scope = f"{credentials.access_key}/{call.headers['x-amz-date'][:8]}/{role.region}/{role.signing_name}/aws4_request"
    return f"Signature={signature}" in sent and f"Credential={scope}" in sent and "host" in names


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Credentials of nobody but this test's."""
    for name in ("AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    use(monkeypatch, FIRST)


def use(monkeypatch: pytest.MonkeyPatch, credentials: Credentials | None) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    values = (credentials.access_key, credentials.secret_key, credentials.token) if credentials else (None,) * 3
    for name, value in zip(names, values, strict=True):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[AIServer]:
    async with AIServer() as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> httpx.AsyncBaseTransport:
    return TRANSPORTS[request.param]()


async def failure_of(asked: Asked) -> AnswerFailed:
    with pytest.raises(AnswerFailed) as caught:
        await anext(asked.ai.answer(TURNS, 100, "some-model"))
    return caught.value


@pytest.mark.parametrize("service", BEDROCK_SERVICES)
async def test_a_request_is_signed_as_aws_checks_it(
    server: AIServer, transport: httpx.AsyncBaseTransport, service: str
):
    known = BEDROCK_SERVICES[service]
    role = Role(known.signing_name, "eu-west-1", known.right)
    async with asking(server.url, transport, api_key=None, role=role) as asked:
        await asked.ai.warm(1)
        assert await asked.text() == "Hello world"
    [call] = server.calls
    assert is_signed(call, FIRST, role)
    assert not is_signed(call, SECOND, role)
    assert call.headers["x-amz-security-token"] == "token-1"
    call.body = call.body.replace("안녕".encode(), b"forged")
    assert not is_signed(call, FIRST, role), "the body is part of what is signed"


async def test_each_try_is_signed_anew(server: AIServer):
    server.script(status(400, {"error": "stream_options is not supported"}), status(503))
    async with asking(server.url, api_key=None, role=ROLE) as asked:
        assert await asked.text() == "Hello world"
    assert [is_signed(call, FIRST) for call in server.calls] == [True] * 3
    assert len({call.headers["authorization"] for call in server.calls[:2]}) == 2


@pytest.mark.parametrize("code", [401, 403])
async def test_refused_credentials_are_looked_for_anew_once(
    server: AIServer, monkeypatch: pytest.MonkeyPatch, code: int
):
    async def script(call: Call) -> None:
        use(monkeypatch, SECOND)  # the platform has replaced them meanwhile
        await (say("Hello", " world") if is_signed(call, SECOND) else status(code))(call)

    server.default = script
    async with asking(server.url, api_key=None, role=ROLE) as asked:
        assert await asked.text() == "Hello world"
    assert len(server.calls) == 2


async def test_a_role_without_the_right_is_told_which(server: AIServer, caplog: pytest.LogCaptureFixture):
    server.default = status(403, {"message": "SECRET is not authorized"})
    async with asking(server.url, api_key=None, role=ROLE) as asked:
        failures = [await failure_of(asked), await failure_of(asked)]
    assert len(server.calls) == 2
    said = "Bedrock refused the role (403): it needs the right bedrock-mantle:CreateInference in eu-west-1"
    assert {(failure.code, failure.message) for failure in failures} == {(FailureCode.AI_REJECTED, f"{said}.")}
    assert [record.message for record in caplog.records if getattr(record, "notice", False)] == [said]
    assert "SECRET" not in caplog.text


async def test_credentials_that_are_about_to_expire_are_renewed_first(
    server: AIServer, monkeypatch: pytest.MonkeyPatch
):
    """As a container's endpoint hands them out; on Lambda that is where they come from after a restore."""
    use(monkeypatch, None)
    handed_out: list[str] = []

    async def hand_out(call: Call) -> None:
        own, minutes = (FIRST, 5) if not handed_out else (SECOND, 60)
        handed_out.append(own.access_key)
        names = ("AccessKeyId", "SecretAccessKey", "Token")
        found = dict(zip(names, (own.access_key, own.secret_key, own.token), strict=True))
        found["Expiration"] = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        await call.whole(200, JSON, json.dumps(found).encode())

    async with AIServer() as endpoint:
        endpoint.default = hand_out
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{endpoint.port}/creds")
        async with asking(server.url, api_key=None, role=ROLE) as asked:
            assert await asked.text() == "Hello world"
            assert await asked.text() == "Hello world"
    assert handed_out == ["AKIDFIRST", "AKIDSECOND"]
    assert all(is_signed(call, SECOND) for call in server.calls)


async def test_without_credentials_nothing_is_sent(
    server: AIServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    use(monkeypatch, None)
    async with asking(server.url, api_key=None, role=ROLE) as asked:
        await asked.ai.warm(1)
        failure = await failure_of(asked)
    assert NO_CREDENTIALS in caplog.text, "an operator is told before anyone asks"
    assert (failure.code, failure.detail) == (FailureCode.AI_REJECTED, NO_CREDENTIALS)
    assert server.calls == []


async def test_half_of_the_credentials_are_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AnswerFailed, match=NO_CREDENTIALS):
        await BedrockRole(ROLE).grant(httpx.URL("http://localhost"), b"{}")


async def test_many_answers_at_once_look_for_credentials_once(server: AIServer):
    loads: list[Credentials] = []

    def load() -> Credentials:
        loads.append(FIRST)
        return FIRST

    role = BedrockRole(ROLE, load)
    grants = await asyncio.gather(*(role.grant(httpx.URL(server.url), b"{}") for _ in range(20)))
    assert len(loads) == 1
    assert "token-1" not in repr(grants)


async def test_a_key_of_bedrocks_is_used_instead_of_the_role(server: AIServer):
    async with asking(server.url) as asked:
        assert await asked.text() == "Hello world"
    assert server.calls[0].headers["authorization"].startswith("Bearer ")
    assert "x-amz-date" not in server.calls[0].headers


def test_without_botocore_what_to_install_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(SettingsError, match=r"boto3.*make aws"):
        BedrockRole(ROLE)
