"""The functions restored from a snapshot, which is played by fork: what copies of one snapshot may not share.

Invariant 27: two copies never make the same id, token or lease, and hold no connection of before.
"""

import asyncio
import json
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis.asyncio

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.repository import SqlChatRepository
from chat.domain.model import Chat, new_id
from chat.settings import Secret
from lambda_stream.testing import FunctionProcess, RuntimeApi, Snapshot, function_url_event
from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.issuer import AUDIENCE, ISSUER, Issuer, claims, public_jwk, token
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PATH = ":".join(str(ROOT / part) for part in ("layers/common", "packages/lambda-stream/src"))
IAM = {"iam": {"userArn": "arn:aws:iam::123456789012:user/tests"}}
JWT = {"CHAT_AUTH": "jwt", "CHAT_JWT_ISSUER": ISSUER, "CHAT_JWT_AUDIENCE": AUDIENCE}
FIRST, SECOND = "first-secret-of-32-characters-long", "other-secret-of-32-characters-long"


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


@pytest.fixture
def environ(embedded_redis, sqlite_url, ai):
    return {"PYTHONPATH": PATH, "REDIS_URL": embedded_redis, "MYSQL_URL": sqlite_url, "OPENAI_BASE_URL": ai.url}


def stream_chat(environ):
    return FunctionProcess("app.app", ROOT / "functions" / "stream_chat", environ)


async def new_chat(url, user):
    chats = SqlChatRepository(open_engine(Secret(url), 1))
    try:
        return (await chats.create(Chat(new_id(), user, None, None, datetime.now(UTC)), None, None)).id
    finally:
        await chats.close()


def send(api: RuntimeApi, chat_id, **headers):
    headers = {"content-type": "application/json", "x-session-id": "phone", **headers}
    body = json.dumps({"content": "Hello"})
    return api.invoke(function_url_event("POST", f"/api/chat/{chat_id}/stream", body, headers, authorizer=IAM))


def has_begun(answer):
    return b"messageId" in answer.body or answer.ended.is_set()


def message_id(answer):
    return json.loads(answer.body.split(b"data: ")[1].split(b"\n")[0])["messageId"]


def connections(pid):
    """Remote ports of the established TCP connections of a process."""
    own = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {int(row[2].split(":")[1], 16) for row in rows if row[3] == "01" and f"socket:[{row[9]}]" in own}


@pytest.mark.skipif(sys.platform != "linux", reason="a process's connections are read from /proc")
async def test_copies_of_one_snapshot_share_no_id_token_lease_or_pseudonym_and_no_connection(environ, ai, tmp_path):
    gate, log = Gate(), tmp_path / "log"
    ai.script(say("one", gate=gate), say("two", gate=gate))
    user = "the-same-user"
    chat_ids = [await new_chat(environ["MYSQL_URL"], user) for _ in range(2)]
    async with Snapshot.of(stream_chat(environ), log) as snapshot:
        assert connections(snapshot.pid) <= {snapshot.api.port}
        await until(lambda: ai.connections == 1, "it had connected, so that everything has run once")
        await until(lambda: ai.open_connections == 0, "and has left")
        async with snapshot.restored() as one, snapshot.restored() as two:
            copies = (one, two)
            answers = [send(copy.api, chat, **{"x-user-id": user}) for copy, chat in zip(copies, chat_ids, strict=True)]
            for answer in answers:
                await until(partial(has_begun, answer))
            ids = [message_id(answer) for answer in answers]
            assert len(set(ids)) == 2
            await ai.called(2)
            async with redis.asyncio.from_url(environ["REDIS_URL"]) as client:
                leases: list[Any] = await client.keys("chat:*:lease:*")
            assert {key.decode().rpartition(":")[2] for key in leases} == set(ids)
            with closing(sqlite3.connect(environ["MYSQL_URL"].removeprefix("sqlite:///"))) as database:
                tokens = [
                    row[0] for row in database.execute("SELECT owner_token FROM messages WHERE role = 'assistant'")
                ]
            assert len(set(tokens)) == 2 and all(tokens)
            await gate.open()
            for answer in answers:
                await until(answer.ended.is_set)
                assert b'"status":"completed"' in answer.body
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"user"' in line]
    assert len(lines) >= 4
    assert len({line["user"] for line in lines}) == 2, "without a key, each copy draws its own for pseudonyms"
    ends = [line for line in lines if line["messageId"] in ids and "status" in line]
    assert len(ends) == 2, "each event is one line"


@asynccontextmanager
async def secrets_manager():
    """A Secrets Manager that knows one secret, which can be changed."""
    kept: dict[str, Any] = {"text": FIRST, "reads": 0}

    async def serve(reader, writer):
        with closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            await reader.readexactly(length)
            kept["reads"] += 1
            body = json.dumps({"Name": "chat/jwt", "SecretString": kept["text"]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        kept["url"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield kept


def bearer(secret):
    return {"authorization": f"Bearer {jwt.encode(claims(), secret, 'HS256')}"}


async def status(api, chat_id, **headers):
    answer = send(api, chat_id, **headers)
    await until(answer.ended.is_set)
    return answer.prelude["statusCode"]


async def test_a_restored_copy_has_read_its_secrets_anew(environ, tmp_path):
    chat_id = await new_chat(environ["MYSQL_URL"], "alice")
    async with secrets_manager() as kept:
        aws = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
        aws |= {"AWS_ENDPOINT_URL_SECRETS_MANAGER": kept["url"], "CHAT_JWT_SECRET": "secretsmanager:chat/jwt"}
        async with Snapshot.of(stream_chat({**environ, **JWT, **aws}), tmp_path / "log") as snapshot:
            assert kept["reads"] == 1
            kept["text"] = SECOND
            async with snapshot.restored() as copy:
                assert await status(copy.api, chat_id, **bearer(FIRST)) == 401
                assert await status(copy.api, chat_id, **bearer(SECOND)) == 200
                assert kept["reads"] == 2
            kept["text"] = ""
            async with snapshot.restored() as copy:
                await until(lambda: copy.api.restore_errors)
                assert "CHAT_JWT_SECRET" in copy.api.restore_errors[0].message


async def test_a_restored_copy_fetches_the_issuers_keys_itself(environ, tmp_path):
    chat_id = await new_chat(environ["MYSQL_URL"], "alice")
    async with Issuer(public_jwk("k1")) as issuer:
        settings = {**environ, **JWT, "CHAT_JWT_JWKS_URL": issuer.url}
        async with Snapshot.of(stream_chat(settings), tmp_path / "log") as snapshot:
            issuer.keys = [public_jwk("k2")]
            for number in (1, 2):
                async with snapshot.restored() as copy:
                    assert await status(copy.api, chat_id, authorization=f"Bearer {token('k1')}") == 401
                    assert await status(copy.api, chat_id, authorization=f"Bearer {token('k2')}") == 200
                assert issuer.fetches >= number
