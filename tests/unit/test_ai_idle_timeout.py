"""How long silence is borne, by a clock that the tests move."""

import asyncio

import pytest

from chat.adapters.llm.idle_timeout import IdleTimeout
from tests.kit.virtual_time import VirtualLoop, run


class Listener:
    """Waits for words under a `IdleTimeout`, as the client does."""

    def __init__(self) -> None:
        self.heard = 0
        self.timeout: IdleTimeout
        self._words: asyncio.Queue[str] = asyncio.Queue()
        self.task = asyncio.ensure_future(self._listen())

    def say(self, word: str) -> None:
        self._words.put_nowait(word)

    async def _listen(self) -> None:
        async with IdleTimeout() as self.timeout:
            self.timeout.reset(60)
            while await self._words.get() != "enough":
                self.heard += 1
                self.timeout.reset(30)


def outcome(task: asyncio.Task[None]) -> type[BaseException] | str | None:
    if not task.done():
        return "waiting"
    return asyncio.CancelledError if task.cancelled() else type(task.exception()) if task.exception() else None


def test_silence_ends_exactly_at_the_limit():
    async def main(loop: VirtualLoop) -> None:
        listener = Listener()
        await loop.advance(0)
        await loop.advance(59.9)
        assert outcome(listener.task) == "waiting"
        await loop.advance(0.2)
        assert outcome(listener.task) is TimeoutError

    run(main)


def test_every_word_begins_the_time_anew():
    async def main(loop: VirtualLoop) -> None:
        listener = Listener()
        await loop.advance(0)
        for _ in range(10):
            listener.say("word")
            await loop.advance(0)
            await loop.advance(29)
        assert (listener.heard, outcome(listener.task)) == (10, "waiting")
        await loop.advance(2)
        assert outcome(listener.task) is TimeoutError

    run(main)


def test_a_shorter_time_replaces_a_longer_one():
    async def main(loop: VirtualLoop) -> None:
        listener = Listener()
        await loop.advance(0)
        listener.timeout.reset(1)
        await loop.advance(1.1)
        assert outcome(listener.task) is TimeoutError

    run(main)


def test_while_paused_it_never_strikes():
    async def main(loop: VirtualLoop) -> None:
        listener = Listener()
        await loop.advance(0)
        listener.timeout.pause()
        await loop.advance(1e6)
        assert outcome(listener.task) == "waiting"
        listener.timeout.reset(5)
        await loop.advance(4.9)
        assert outcome(listener.task) == "waiting"
        await loop.advance(0.2)
        assert outcome(listener.task) is TimeoutError

    run(main)


def test_a_word_at_the_last_moment_is_in_time():
    """The timer has struck already, but the task was not cancelled yet when it paused."""

    async def main(loop: VirtualLoop) -> None:
        async with IdleTimeout() as timeout:
            timeout.reset(60)
            loop.call_at(loop.time() + 60, timeout.pause)  # runs behind the timer, which is due at the same time
            await loop.advance(60)
            await loop.advance(1)

    run(main)


def test_cancelling_passes_through():
    async def main(loop: VirtualLoop) -> None:
        listener = Listener()
        await loop.advance(0)
        listener.task.cancel()
        await loop.advance(0)
        assert outcome(listener.task) is asyncio.CancelledError

    run(main)


def test_a_time_limit_around_it_strikes_as_its_own():
    async def main(loop: VirtualLoop) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10) as outer:
                async with IdleTimeout() as timeout:
                    timeout.reset(60)
                    await asyncio.Event().wait()
            assert outer.expired()

        task = asyncio.ensure_future(limited())
        await loop.advance(0)
        await loop.advance(11)
        with pytest.raises(TimeoutError):
            await task

    run(main)


def test_afterwards_nothing_of_it_strikes():
    async def main(loop: VirtualLoop) -> None:
        async with IdleTimeout() as timeout:
            timeout.reset(60)
        await loop.advance(100)
        assert asyncio.current_task() is not None
        assert not asyncio.current_task().cancelling()

    run(main)
