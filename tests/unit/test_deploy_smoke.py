"""The smoke test finds what it is there to find: services with one fault each, behind httpx's own fake transport."""

import asyncio
import json
from uuid import uuid4

import httpx
import pytest

from deploy.client import Caller, Service, signer
from deploy.smoke import (
    check_cancel,
    check_head,
    check_health,
    check_nothing_to_follow,
    check_problems,
    check_stream,
    main,
    run,
)


class Stream(httpx.AsyncByteStream):
    def __init__(self, pieces):
        self.pieces = pieces

    async def __aiter__(self):
        for piece in self.pieces:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif isinstance(piece, float):
                await asyncio.sleep(piece)  # the pace of the AI
            else:
                yield piece


def event(name, **data):
    return (f"event: {name}\n" if name != "message" else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


class Fake:
    """The service as it should be; a test takes one thing away."""

    def __init__(self, **faults):
        self.faults = faults
        self.cancelled = asyncio.Event()
        self.waits_for_cancel = False

    async def __call__(self, request):
        path, method = request.url.path, request.method
        if path == "/health":
            return self.health(method)
        if path == "/api/chat/create":
            return self.problem(405, "method_not_allowed") if method == "GET" else self.made()
        if path.endswith("/cancel"):
            return self.cancel(path)
        if "known" not in path:
            return self.problem(404, "chat_not_found")
        if method == "GET" and "messageId" not in request.url.params:
            return httpx.Response(self.faults.get("nothing", 204))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream(self.answer(method)))

    def health(self, method):
        if method != "GET":
            return httpx.Response(self.faults.get("head", 405))
        body = {"status": self.faults.get("health", "ok"), "mysql": {"latencyMs": 1}, "redis": {"latencyMs": 1}}
        return httpx.Response(200, json=body)

    def made(self):
        return httpx.Response(201, json={"chatId": f"known-{uuid4()}"})

    def problem(self, status, code):
        kind = self.faults.get("problem", "application/problem+json")
        return httpx.Response(status, json={"code": code}, headers={"content-type": kind})

    def cancel(self, path):
        if "known" not in path:
            return self.problem(404, "chat_not_found")
        self.cancelled.set()
        return httpx.Response(200, json={"success": True, "status": "cancelled"})

    def answer(self, method):
        text = self.faults.get("stored", "one two ") if method == "GET" else "one two "
        yield event("start", messageId="m")
        yield event("message", delta=text[:4])
        yield 0.0 if self.faults.get("buffered") else 0.3
        if self.waits_for_cancel:
            yield self.cancelled
        yield event("message", delta=text[4:])
        status = "cancelled" if self.waits_for_cancel and not self.faults.get("deaf") else "completed"
        if not self.faults.get("cut"):
            yield event("done", status=status, characters=8 + self.faults.get("miscounted", 0))


async def outcome(check, **faults):
    fake, said = Fake(**faults), []
    fake.waits_for_cancel = check is check_cancel
    async with httpx.AsyncClient(transport=httpx.MockTransport(fake)) as client:
        caller = Caller(client, "http://service")
        good = await run(Service(caller, caller, caller), [check], said.append)
    (line,) = said
    assert line.startswith("ok " if good else "FAILED "), line
    return good, line


CHECKS = (check_health, check_stream, check_cancel, check_nothing_to_follow, check_head, check_problems)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_good_service_passes(check):
    good, line = await outcome(check)
    assert good, line


@pytest.mark.parametrize(
    ("check", "fault", "found"),
    [
        (check_health, {"health": "degraded"}, "degraded"),
        (check_stream, {"buffered": True}, "buffered?"),
        (check_stream, {"cut": True}, "the stream ended with message"),
        (check_stream, {"stored": "one tvo "}, "another than what arrived"),
        (check_stream, {"miscounted": 1}, "other characters"),
        (check_cancel, {"deaf": True}, "ended as completed"),
        (check_nothing_to_follow, {"nothing": 200}, "200"),
        (check_head, {"head": 502}, "502"),
        (check_problems, {"problem": "text/html"}, "text/html"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_a_fault_is_found(check, fault, found):
    good, line = await outcome(check, **fault)
    assert not good
    assert found in line


async def test_a_service_that_is_not_there_fails_with_a_line_and_no_traceback():
    async def refuse(_):
        raise httpx.ConnectError("connection refused")

    said = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        caller = Caller(client, "http://service")
        assert not await run(Service(caller, caller, caller), say=said.append)
    assert len(said) == 7
    assert all("connection refused" in line for line in said)


def test_requests_to_function_urls_are_signed_and_others_are_not(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    assert signer("http://localhost:8000") is None
    sign = signer("https://abc.lambda-url.eu-north-1.on.aws/")
    signed = sign("POST", "https://abc.lambda-url.eu-north-1.on.aws/api/chat/create", b"{}", {"Content-Type": "x"})
    assert "/eu-north-1/lambda/aws4_request" in signed["Authorization"]
    assert signed["X-Amz-Security-Token"] == "session"
    assert signed["Content-Type"] == "x"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "URL=http://localhost:8000"),
        (["http://a", "http://b"], "three (create, stream, cancel)"),
        (["localhost:8000"], "localhost:8000 is no address"),
    ],
)
def test_what_was_meant_to_be_tried_has_to_be_said(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


class TestWithoutAccessToAws:
    @pytest.fixture(autouse=True)
    def _nothing_configured(self, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "CHAT_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    @pytest.mark.parametrize(
        ("region", "arguments", "said"),
        [
            (None, ["--stack", "chat"], "the stack chat cannot be read: You must specify a region"),
            ("eu-west-1", ["--stack", "chat"], "the stack chat cannot be read: Unable to locate credentials"),
            ("eu-west-1", ["https://abc.lambda-url.eu-west-1.on.aws/"], "no AWS credentials"),
        ],
    )
    def test_it_ends_with_a_line_and_no_traceback(self, region, arguments, said, monkeypatch):
        if region:
            monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert said in end.value.code
