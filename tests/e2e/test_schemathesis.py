"""schemathesis against the running service: examples, edges of every parameter, random and stateful requests."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from openapi.document import PLACE
from tests.kit import counts
from tests.kit.ai_server import AIServer
from tests.kit.log_lines import parse
from tests.kit.service import ROOT, running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("schemathesis"), pytest.mark.timeout(400)]

SECRET = "a secret of at least thirty-two bytes"
FREE = {
    "CHAT_MESSAGES_PER_MINUTE": "0",
    "CHAT_MAX_ACTIVE_ANSWERS_PER_USER": "0",
    "CHAT_MAX_STREAMS_PER_USER": "0",
    "CHAT_CHATS_PER_MINUTE": "0",
    "CHAT_MAX_BODY_BYTES": "1000000",  # a message may be four times as long in escapes
}
JWT = {
    "CHAT_AUTH": "jwt",
    "CHAT_JWT_SECRET": SECRET,
    "CHAT_JWT_ISSUER": "issuer",
    "CHAT_JWT_AUDIENCE": "chat",
}


def token() -> str:
    now = int(time.time())
    claims = {"sub": "user-1", "iss": "issuer", "aud": "chat", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, SECRET, "HS256")


def adapted(scheme: str) -> dict:
    """The document as the tool can use it: one kind of authentication, streams by their events, no skipped bodies."""
    document = json.loads(PLACE.read_text())
    document["openapi"] = "3.2.0"  # which has `itemSchema`
    for operation in (operation for item in document["paths"].values() for operation in item.values()):
        operation["security"] = [one for one in operation["security"] if scheme in one]
        said = [response.get("content", {}) for status, response in operation["responses"].items() if status < "3"]
        for content in [one["text/event-stream"] for one in said if "text/event-stream" in one]:
            del content["schema"]
            content["itemSchema"] = content.pop("x-itemSchema", {"type": "object"})  # the AI SDK's is its own
    send = document["paths"]["/api/chat/{chatId}/stream"]["post"]  # with them it is the GET, and reads no body
    send["parameters"] = [
        one for one in send["parameters"] if one["name"].lower() not in ("last-event-id", "lasteventid")
    ]
    return document


def attack(url: str, folder: Path, scheme: str) -> subprocess.CompletedProcess:
    (folder / "openapi.json").write_text(json.dumps(adapted(scheme)))
    header = "X-User-Id: user-1" if scheme == "user" else f"Authorization: Bearer {token()}"
    # A missing X-User-Id is 400, where the tool wants 401: that is for credentials, which it is none of.
    excluded = ["--exclude-checks", "ignored_auth"] if scheme == "user" else []
    examples = str(counts.of(40)) if scheme == "user" else "2"
    phases = [] if scheme == "user" else ["--phases", "examples,fuzzing"]  # behind the door both are alike
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", "openapi.json", "--url", url, "--header", header),
        *(
            "--checks",
            "all",
            *excluded,
            *phases,
            "--max-examples",
            examples,
            "--seed",
            "7",
            "--no-color",
            "--warnings",
            "off",
        ),
        *("--suppress-health-check", "filter_too_much"),
    ]
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.kit.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("scheme", ["user", "token"])
async def test_schemathesis_finds_nothing(scheme, tmp_path):
    async with AIServer() as ai:

        def run() -> tuple[subprocess.CompletedProcess, list[dict], int]:
            with running(FREE | {"OPENAI_BASE_URL": ai.url} | (JWT if scheme == "token" else {})) as service:
                done = attack(service.url, tmp_path, scheme)
                logs = [service.log(name) for name in ("create_chat", "stream_chat", "cancel_stream", "manage_chats")]
            return done, [line for log in logs for line in parse(log)], len(ai.calls)

        done, lines, calls = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert "No issues found" in done.stdout
    assert calls, "answers were generated"
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")]
