"""What the AI client costs: a bare socket, httpx's own transport and the lean one, against one scripted server.

    PYTHONPATH=layers/common:packages/lambda-stream/src:. .venv/bin/python bench/ai_client.py

Every figure is the median of rounds in which all peers take turns, so that a busy machine troubles all alike.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import httpx

from chat.adapters.llm.client import OpenAI
from chat.adapters.llm.transport import LeanTransport
from chat.ai_settings import ModelSettings, ProviderSettings
from chat.domain.model import ChatMessage
from tests.kit.ai_client import SETTINGS
from tests.kit.ai_server import DONE, AIServer, Call, finish, text

FLAT, PACED, RATE = 20_000, 300, 200
ROUNDS = 7
MODELS = ("flat", "paced", "first")
TURNS = [ChatMessage("user", "Hello")]


async def play(call: Call) -> None:
    """Answer as the model's name says: everything at once, so many a second, or one word."""
    await call.start()
    word = text(" word")
    if call.json["model"] == "flat":
        frame = b"%x\r\n%b\r\n" % (len(word), word)
        for _ in range(FLAT // 500):
            await call.raw(frame * 500)
    elif call.json["model"] == "paced":
        for _ in range(PACED):
            await call.send(word)
            await asyncio.sleep(1 / RATE)
    else:
        await call.send(word)
    await call.send(finish() + DONE)
    await call.end()


def serve(pipe: Connection) -> None:
    async def main() -> None:
        async with AIServer() as server:
            server.default = play
            pipe.send(server.url)
            await asyncio.Event().wait()

    asyncio.run(main())


Ask = Callable[[str], AsyncIterator[int]]
"""Asks the model of that name; yields how many events each read brought."""


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Ask]:
    """The floor: a socket, no HTTP parser, no decoding."""
    target = httpx.URL(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)

    async def ask(model: str) -> AsyncIterator[int]:
        body = b'{"model":"%b"}' % model.encode()
        head = f"POST {target.path}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = await reader.read(1 << 18)
            tail = (tail + data)[-16:]
            yield data.count(b"data: ")

    yield ask
    writer.close()


def http(make: Callable[[], httpx.AsyncBaseTransport]) -> Callable[[str], object]:
    """The bytes of the body, passed through."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Ask]:
        async with httpx.AsyncClient(transport=make(), timeout=None) as client:

            async def ask(model: str) -> AsyncIterator[int]:
                async with client.stream("POST", f"{url}/chat/completions", json={"model": model}) as response:
                    async for data in response.aiter_raw():
                        yield data.count(b"data: ")

            yield ask

    return opened


def whole(make: Callable[[], httpx.AsyncBaseTransport]) -> Callable[[str], object]:
    """Our client, down to the pieces of an answer."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Ask]:
        models = tuple(ModelSettings(name, ProviderSettings(url), name) for name in MODELS)
        ai = OpenAI(replace(SETTINGS, catalog=models), transport=make())

        async def ask(model: str) -> AsyncIterator[int]:
            async for pieces in ai.answer(TURNS, 100, model):
                yield len(pieces)

        yield ask
        await ai.close()

    return opened


PEERS = {
    "bare socket": bare,
    "bytes, httpx's transport": http(httpx.AsyncHTTPTransport),
    "bytes, lean transport": http(LeanTransport),
    "pieces, httpx's transport": whole(httpx.AsyncHTTPTransport),
    "pieces, lean transport": whole(LeanTransport),
}


async def cpu_per_delta(ask: Ask, model: str) -> float:
    """Return microseconds of CPU of this process for each delta."""
    began, count = time.process_time(), 0
    async for events in ask(model):
        count += events
    return (time.process_time() - began) / count * 1e6


async def first_delta(ask: Ask, _model: str) -> float:
    """Return microseconds until the first delta, on a connection that is open; the median of many."""
    waits = []
    for _ in range(50):
        began, wait = time.perf_counter(), 0.0
        async for events in ask("first"):
            wait = wait or (events and time.perf_counter() - began)
        waits.append(wait * 1e6)
    return statistics.median(waits)


MEASURES: dict[str, tuple[str, Callable[[Ask, str], Awaitable[float]]]] = {
    "CPU per delta, flat out": ("flat", cpu_per_delta),
    f"CPU per delta at {RATE}/s": ("paced", cpu_per_delta),
    "first delta": ("first", first_delta),
}


async def measure(url: str) -> None:
    for name, (model, take) in MEASURES.items():
        figures: dict[str, list[float]] = {peer: [] for peer in PEERS}
        for _ in range(ROUNDS):
            for peer, opened in PEERS.items():
                async with opened(url) as ask:  # type: ignore[attr-defined]
                    await first_delta(ask, "first") if not figures[peer] else None
                    figures[peer].append(await take(ask, model))
        peer_of = statistics.median(figures["bytes, httpx's transport"])
        print(f"\n{name}, microseconds (ratio to the bytes through httpx's own transport)")
        for peer, values in figures.items():
            middle = statistics.median(values)
            print(f"  {peer:28}{middle:9.1f}  x {middle / peer_of:4.2f}   [{min(values):.1f} to {max(values):.1f}]")


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(ours.recv()))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
