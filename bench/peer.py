"""What is measured, and how each is started, asked and cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.ai_server import Plan
from bench.asking import Ask, invoke
from bench.http_client import HttpClient
from bench.process import Child, Process
from bench.stores import Stores
from lambda_stream.testing import FunctionProcess, RuntimeApi, Snapshot, function_url_event

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
BUILD = ROOT / ".build" / "bench"
NODE_CLIENT = BUILD / "node" / "node_modules" / "aws-lambda-ric" / "index.mjs"
STARTUP_SECONDS = 30.0

Cancel = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Code:
    """Which Python, and which code, a peer runs on: the work tree, or what a build made."""

    python: tuple[str, ...] = (sys.executable,)
    path: tuple[str, ...] = (
        str(ROOT / "layers" / "common"),
        str(ROOT / "packages" / "lambda-stream" / "src"),
        str(ROOT),
    )
    functions: Path = ROOT / "functions"


class Running:
    """A started peer."""

    def __init__(self, child: Process, ask: Callable[[Plan], Awaitable[tuple[Ask, Cancel]]]) -> None:
        self.child = child
        self.ask = ask

    async def first(self, ask: Ask) -> int:
        """Wait for the first delta, and fail with the peer's log if the peer dies of it."""
        for _ in range(int(STARTUP_SECONDS)):
            done, _ = await asyncio.wait([ask.first], timeout=1)
            if done:
                return ask.first.result()
            self.child.check()
        raise TimeoutError(f"no first delta in {STARTUP_SECONDS:g} s: {ask.head[:300]!r}")


Start = Callable[[AsyncExitStack, str, int, Code], Awaitable[Running]]


@dataclass(frozen=True)
class Peer:
    """Something to be measured."""

    name: str
    start: Start
    stores: Stores | None = None
    can_cancel: bool = True
    can_share: bool = True
    """Many answers in one process."""
    flat_deltas: int = 20_000


def environ(ai: str, code: Code, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a peer: nothing of the machine's but the path."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(BUILD),
        "BENCH_AI": ai,
        "PYTHONPATH": os.pathsep.join(code.path),
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "bench",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
        "AWS_REGION": "eu-north-1",
        **extra,
    }


async def start_function(
    stack: AsyncExitStack,
    command: Sequence[str],
    settings: Mapping[str, str],
    folder: Path,
    name: str,
) -> tuple[Child, RuntimeApi]:
    """Start a function at a Runtime API of its own."""
    api = await stack.enter_async_context(RuntimeApi())
    child = Child(command, {**settings, "AWS_LAMBDA_RUNTIME_API": api.address}, folder, BUILD / "logs" / f"{name}.log")
    stack.callback(child.stop)
    return child, api


def passthrough(module: str) -> Start:
    """Return how a passthrough on lambda_stream is started."""

    async def start(stack: AsyncExitStack, ai: str, concurrency: int, code: Code) -> Running:
        extra = {
            "_HANDLER": f"{module}.app",
            "LAMBDA_TASK_ROOT": str(PEERS),
            "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency),
        }
        command = [*code.python, "-m", "lambda_stream"]
        child, api = await start_function(stack, command, environ(ai, code, extra), PEERS, module)

        async def ask(plan: Plan) -> tuple[Ask, Cancel]:
            headers = {"x-tag": plan.tag}

            async def cancel() -> None:
                invoke(api, url_event("/cancel", "", headers))

            return invoke(api, url_event("/", _question(plan), headers)), cancel

        return Running(child, ask)

    return start


def node() -> Start:
    """Return how AWS's streaming client for Node.js is started."""

    async def start(stack: AsyncExitStack, ai: str, _: int, code: Code) -> Running:
        extra = {"_HANDLER": "passthrough.handler", "LAMBDA_TASK_ROOT": str(PEERS)}
        command = ["node", str(NODE_CLIENT), "passthrough.handler"]
        child, api = await start_function(stack, command, environ(ai, code, extra), PEERS, "node")

        async def ask(plan: Plan) -> tuple[Ask, Cancel]:
            return invoke(api, url_event("/", _question(plan), {})), _never

        return Running(child, ask)

    return start


def hello() -> Start:
    """Return how FastAPI's hello world is started."""

    async def start(stack: AsyncExitStack, ai: str, _: int, code: Code) -> Running:
        extra = {"_HANDLER": "hello.handler", "LAMBDA_TASK_ROOT": str(PEERS), "TZ": ":UTC"}
        command = [*code.python, "-m", "awslambdaric", "hello.handler"]
        child, api = await start_function(stack, command, environ(ai, code, extra), PEERS, "hello")

        async def ask(_: Plan) -> tuple[Ask, Cancel]:
            return invoke(api, url_event("/", "", {})), _never

        return Running(child, ask)

    return start


def naive(stores: Stores) -> Start:
    """Return how the tutorial's service is started, with its cancel."""

    async def start(stack: AsyncExitStack, ai: str, _: int, code: Code) -> Running:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        settings = environ(ai, code, {"REDIS_URL": stores.redis_url, "MYSQL_URL": stores.mysql_url})
        command = [*code.python, "-m", "uvicorn", "naive:app", "--port", str(port), "--log-level", "warning"]
        child = Child(command, settings, PEERS, BUILD / "logs" / "naive.log")
        stack.callback(child.stop)
        client = HttpClient(port)
        stack.callback(client.close)
        await _listening(child, port)

        async def ask(plan: Plan) -> tuple[Ask, Cancel]:
            async def cancel() -> None:
                await client.post(f"/chats/{plan.tag}/cancel", "")

            return await client.post(f"/chats/{plan.tag}/messages", json.dumps({"content": _content(plan)})), cancel

        return Running(child, ask)

    return start


def _settings(stores: Stores, ai: str, code: Code) -> dict[str, str]:
    extra = {
        "REDIS_URL": stores.redis_url,
        "MYSQL_URL": stores.mysql_url,
        "OPENAI_BASE_URL": f"http://{ai}/v1",
        "OPENAI_API_KEY": "bench",
        "OPENAI_MODEL": "bench",
    }
    return environ(ai, code, extra)


def restored(stores: Stores) -> Start:
    """Return how a copy of stream_chat is restored from a snapshot, which is taken first and played by fork."""

    async def start(stack: AsyncExitStack, ai: str, _: int, code: Code) -> Running:
        function = FunctionProcess(
            "app.app",
            code.functions / "stream_chat",
            _settings(stores, ai, code),
            [*code.python, "-m", "lambda_stream"],
        )
        (BUILD / "logs").mkdir(parents=True, exist_ok=True)
        snapshot = await stack.enter_async_context(Snapshot.of(function, BUILD / "logs" / "restored.log"))
        copy = await stack.enter_async_context(snapshot.restored())

        async def ask(plan: Plan) -> tuple[Ask, Cancel]:
            chat = await stores.new_chat()
            headers = {"x-user-id": chat.user_id, "x-session-id": plan.tag}
            body = json.dumps({"content": _content(plan)})
            return invoke(copy.api, url_event(f"/api/chat/{chat.id}/stream", body, headers)), _never

        return Running(Process(copy.pid), ask)

    return start


def ours(stores: Stores) -> Start:
    """Return how our functions are started: stream_chat, and cancel_stream when it is first asked."""

    async def start(stack: AsyncExitStack, ai: str, concurrency: int, code: Code) -> Running:
        settings = _settings(stores, ai, code)
        folder = code.functions / "stream_chat"
        extra = {
            "_HANDLER": "app.app",
            "LAMBDA_TASK_ROOT": str(folder),
            "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency),
        }
        child, api = await start_function(
            stack, [*code.python, "-m", "lambda_stream"], settings | extra, folder, "ours"
        )
        cancels: list[RuntimeApi] = []

        async def canceller() -> RuntimeApi:
            if not cancels:
                folder = code.functions / "cancel_stream"
                extra = {"_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(folder), "TZ": ":UTC"}
                command = [*code.python, "-m", "awslambdaric", "app.handler"]
                cancels.append((await start_function(stack, command, settings | extra, folder, "ours-cancel"))[1])
            return cancels[0]

        async def ask(plan: Plan) -> tuple[Ask, Cancel]:
            chat = await stores.new_chat()
            headers = {"x-user-id": chat.user_id, "x-session-id": plan.tag}
            path = f"/api/chat/{chat.id}"

            async def cancel() -> None:
                invoke(await canceller(), url_event(f"{path}/cancel", "", headers))

            body = json.dumps({"content": _content(plan)})
            return invoke(api, url_event(f"{path}/stream", body, headers)), cancel

        return Running(child, ask)

    return start


def url_event(path: str, body: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a POST as a Function URL event."""
    caller = {"iam": {"accountId": "123456789012", "userArn": "arn:aws:iam::123456789012:user/bench"}}
    return function_url_event("POST", path, body, {"content-type": "application/json", **headers}, authorizer=caller)


async def _never() -> None:
    raise NotImplementedError


def _content(plan: Plan) -> str:
    return json.dumps(asdict(plan))


def _question(plan: Plan) -> str:
    return json.dumps({"model": "bench", "messages": [{"role": "user", "content": _content(plan)}], "stream": True})


async def _listening(child: Child, port: int) -> None:
    async with asyncio.timeout(STARTUP_SECONDS):
        while True:
            child.check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
