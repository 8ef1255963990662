"""`AI` as a script: a test says what comes, piece by piece, and when."""

import asyncio
from collections.abc import Sequence

from chat.application.ports import Finish, StreamPart, TextDelta
from chat.domain.errors import AnswerFailed

SILENCE = asyncio.Event
"""Put an event into the script to be silent until it is set."""


class ScriptedAI:
    """Plays the same script at every call; knows how often it was called and whether a call was left early."""

    models = ("scripted", "other")

    def __init__(self, *script: StreamPart | list[StreamPart] | Exception | asyncio.Event | str) -> None:
        """A list is one batch, as one read from the network makes it."""
        self.script = list(script) or ["Hello, ", "world", Finish("stop")]
        self.calls: list[Sequence] = []
        self.max_tokens: list[int] = []
        self.asked: list[str] = []
        """Which model each call was for."""
        self.left = 0
        self.reached = asyncio.Event()

    async def answer(self, turns, max_tokens, model):
        self.calls.append(turns)
        self.asked.append(model)
        self.max_tokens.append(max_tokens)
        is_whole = False
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    is_whole = True
                    raise step
                if isinstance(step, asyncio.Event):
                    self.reached.set()
                    await step.wait()
                elif isinstance(step, list):
                    yield step
                else:
                    yield [TextDelta(step) if isinstance(step, str) else step]
                    await asyncio.sleep(0)
            is_whole = True
        finally:
            self.left += not is_whole


__all__ = ["SILENCE", "AnswerFailed", "ScriptedAI"]
