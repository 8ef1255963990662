"""An answer whose every word waits for the test: it tells what has come while something else stands still."""

import asyncio

from tests.kit.ai_server import AIServer, Gate, say
from tests.kit.fleet import Process
from tests.kit.world import Client

SECONDS = 20
"""Catches hanging."""


class Gated:
    """One answer in one process: the AI says each next word when the client has the one before."""

    def __init__(self, ai: AIServer, process: Process, words: int = 6) -> None:
        self.ai, self.process = ai, process
        self.words = [f"{number} " for number in range(words)]
        self.gate = Gate()
        self.client = Client()
        self.said = 0
        self.chat_id = ""
        self.streaming: asyncio.Task | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.words)

    async def begin(self, **more) -> "Gated":
        """Send the message, and return when the AI has been asked."""
        self.chat_id = self.chat_id or await self.process.new_chat()
        self.ai.script(say(*self.words, gate=self.gate))
        self.client, self.streaming = await self.process.begin(self.chat_id, **more)
        async with asyncio.timeout(SECONDS):
            await self.gate.reached()
        return self

    async def hear(self, count: int = 1) -> None:
        """Let the AI say so many words, each when the client has the one before."""
        for _ in range(count):
            await self.gate.release()
            self.said += 1
            await self.client.has(1 + self.said)

    async def end(self, seconds: float = SECONDS) -> Client:
        """Hear the rest, and return when nothing of the answer runs any more."""
        await self.hear(len(self.words) - self.said)
        await self.gate.open()
        async with asyncio.timeout(seconds):
            await self.streaming
        return self.client
