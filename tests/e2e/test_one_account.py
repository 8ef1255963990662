"""One account takes all that it can get of the real service: the others, `/health` and cancels do not wait for it."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from tests.kit import ai_server
from tests.kit.ai_server import AIServer, Call
from tests.kit.service import running
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]

WATCHERS = 400
SECONDS = 20.0
"""Catches waiting for a place, which takes until somebody goes; not slowness."""


async def slow(call: Call) -> None:
    """Say a word, then nothing until the client goes away."""
    await call.start()
    await call.send(ai_server.text("word "))
    await call.closed.wait()


def device(user: str) -> dict[str, str]:
    return {"X-User-Id": user, "X-Session-Id": "phone"}


async def new_chat(client: httpx.AsyncClient, user: str) -> str:
    return (await client.post("/api/chat/create", headers=device(user))).json()["chatId"]


async def first_delta(client: httpx.AsyncClient, open_streams: AsyncExitStack, user: str, chat_id: str) -> str:
    """Send a message and return the first text; the stream stays open."""
    request = client.stream("POST", f"/api/chat/{chat_id}/stream", headers=device(user), json={"content": "hello"})
    response = await open_streams.enter_async_context(request)
    return await anext(line async for line in response.aiter_lines() if '"delta"' in line)


async def refused(client: httpx.AsyncClient, open_streams: AsyncExitStack, user: str, chat_id: str) -> bool:
    """Watch, and tell whether it was refused; if not, the stream stays open."""
    request = client.stream("GET", f"/api/chat/{chat_id}/stream", headers=device(user))
    response = await open_streams.enter_async_context(request)
    return response.status_code == 429


@asynccontextmanager
async def service_for_all(**settings: str):
    """Yield a client of the real service, and what keeps streams open; in the end nothing waits for a slow answer."""
    async with AIServer() as ai, AsyncExitStack() as open_streams:
        ai.default = slow
        with running({"OPENAI_BASE_URL": ai.url, **settings}) as service:
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=service.url, timeout=90, limits=limits)
            yield await open_streams.enter_async_context(client), open_streams
            await open_streams.aclose()


async def test_with_400_watchers_of_one_user_another_users_answer_health_and_cancels_go_on():
    async with service_for_all() as (client, open_streams):
        greedy, other = str(uuid4()), str(uuid4())
        chats = {user: await new_chat(client, user) for user in (greedy, other)}
        await first_delta(client, open_streams, greedy, chats[greedy])
        watching = [asyncio.create_task(refused(client, open_streams, greedy, chats[greedy])) for _ in range(WATCHERS)]
        await until(lambda: any(task.done() for task in watching))
        async with asyncio.timeout(SECONDS):
            assert (await client.get("/health")).status_code == 200
            assert "word" in await first_delta(client, open_streams, other, chats[other])
            answers = await asyncio.gather(*watching)
        assert answers.count(False) == 24 - 1  # one of the places is the answer's own
        async with asyncio.timeout(SECONDS):
            for user, chat_id in chats.items():
                reply = await client.post(f"/api/chat/{chat_id}/cancel", headers=device(user))
                assert reply.json()["status"] == "cancelled"


async def test_health_and_cancels_do_not_wait_behind_streams_that_wait_for_a_place():
    """Without a limit, two places in each of eight processes, all of them taken."""
    async with service_for_all(CHAT_MAX_STREAMS_PER_USER="0", AWS_LAMBDA_MAX_CONCURRENCY="2") as (client, open_streams):
        chat_id = await new_chat(client, "user")
        await first_delta(client, open_streams, "user", chat_id)
        watching = [asyncio.create_task(refused(client, open_streams, "user", chat_id)) for _ in range(40)]
        await until(lambda: any(task.done() for task in watching))
        async with asyncio.timeout(SECONDS):
            assert (await client.get("/health")).status_code == 200
            assert not all(task.done() for task in watching)
            reply = await client.post(f"/api/chat/{chat_id}/cancel", headers=device("user"))
            assert reply.json()["status"] == "cancelled"
        await asyncio.gather(*watching)
