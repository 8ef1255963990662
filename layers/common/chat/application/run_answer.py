"""One answer while its owner, this process, generates it.

Start:  `start`, registration and a look at the cancel keys, then the AI.
End:    MySQL, then the end of the log, then `done`, then the release of lease, session and limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import cast

from chat import log_context
from chat.application.admission import Admission
from chat.application.checkpoints import CheckpointWriter
from chat.application.deps import AnswerDeps, Deadline, Deliver
from chat.application.final_store import FinalStore
from chat.application.ports import AnswerLease, Dropped, Finish, ReasoningDelta, SourcesAdded, StreamPart, TextDelta
from chat.application.stop_signal import StopSignal
from chat.application.telemetry_events import AnswerEnded, AnswerStarted, FirstDeltaSent, TelemetryEvent
from chat.application.write_title import TitleTask
from chat.domain.answer import Answer
from chat.domain.answer_room import AnswerRoom
from chat.domain.errors import AnswerFailed, FailureCode, StorageUnavailable
from chat.domain.events import Event
from chat.domain.model import ChatMessage, FinalAnswer, NewAnswer, Outcome, Started, Status, Usage
from chat.domain.prompt_window import estimate_input, estimate_tokens, fit_history
from chat.domain.replay import replay, restart

MAX_CHARACTERS = 1_500_000
"""Of text, reasoning and sources: more than any model says, and in UTF-8 less than MySQL's columns and packets take."""
MAX_EVENTS = 130_000
"""An event costs memory for as long as the answer runs, however short it is; models say at most 128,000 tokens."""
JOINED_FROM = 5_000
"""From so many events on, what comes in one read from the network is one delta."""

logger = logging.getLogger(__name__)


class AnswerRun:
    """Generates one answer, stores it and delivers it. Its row is stored and owned by this process."""

    def __init__(
        self,
        deps: AnswerDeps,
        new: NewAnswer,
        started: Started,
        answer: Answer,
        lease: AnswerLease,
        admission: Admission,
        stop: StopSignal,
        deadline: Deadline,
    ) -> None:
        self.answer = answer
        self._deps, self._new, self._started, self._deadline = deps, new, started, deadline
        self._lease, self._admission, self._stop = lease, admission, stop
        self._final_store = FinalStore(deps, lease, answer.identity, new.owner_token, deadline.ends_at)
        self._messages: list[ChatMessage] = []
        self._window_from = started.window_from
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._characters = 0
        self._is_ending = False
        self._room = AnswerRoom(started.max_answer_bytes, lambda: (answer.text, answer.reasoning))
        self._title = _title_task(deps, started, answer, self._tell_title)
        self._deliver: Deliver = lambda events, with_ids: None

    def cancel(self) -> None:
        """Stop: somebody asked for it."""
        self._stop.cancel()

    async def close(self) -> None:
        """Give back the place among the user's streams, and let a title be stored that has come too late to be told.

        The client has got everything, or has gone.
        """
        await self._admission.stream.close()
        if self._title is not None:
            await self._title.finish()

    async def run(self, deliver: Deliver) -> None:
        """Generate, store and deliver everything; returns when nothing of the answer runs any more."""
        identity, stop = self.answer.identity, self._stop
        self._deliver = deliver
        writer = CheckpointWriter(self._deps, self.answer, self._new.owner_token, lambda: stop.stop(Status.INTERRUPTED))
        with log_context.bind(chatId=identity.chat_id, messageId=identity.message_id):
            checkpoints = asyncio.create_task(writer.run())
            try:
                outcome = await self._generate()
            except asyncio.CancelledError:
                if self._title is not None:
                    self._title.cancel()
                await self._finish(Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED))
                raise
            else:
                await self._finish(outcome)
            finally:
                await self._close(checkpoints)

    async def _generate(self) -> Outcome:
        self._deliver([self.answer.begin()], True)
        before = self._milliseconds()
        if await self._lease.register(self._started.is_first):
            self._stop.cancel()
        self._record(AnswerStarted, self._milliseconds() - before)
        if self._stop.status is not None:
            return self._stop.outcome()
        started, budget = self._started, self._deps.budget
        try:
            self._messages, self._window_from = fit_history(
                started.system_prompt, started.history, started.question, budget.context_tokens, started.window_from
            )
            beside = self._title.max_tokens if self._title else 0
            self._admission.reserve(estimate_input(self._messages) + budget.output_tokens + beside)
            async with (
                self._stop.until(self._deadline.stops_at),
                aclosing(
                    self._deps.ai.answer(self._messages, budget.output_tokens, self.answer.identity.model)
                ) as batches,
            ):
                async for batch in batches:
                    self._append(batch)
                    if self._room.is_full:
                        return Outcome(Status.COMPLETED, "length")
        except TimeoutError:
            return self._stop.outcome()
        except AnswerFailed as failure:
            logger.warning("the AI failed", extra={"code": failure.code, "detail": failure.detail})
            failure.__traceback__ = None  # its frames hold it and the conversation: a cycle for the garbage collector
            return Outcome(Status.FAILED, None, failure.code, failure.message)
        except Exception:
            # The answer must end, and be stored, whatever went wrong; the fault is ours and is logged.
            logger.exception("an answer failed")
            return Outcome(Status.FAILED, None, FailureCode.INTERNAL_ERROR)
        return Outcome(Status.COMPLETED, self._finish_reason)

    def _append(self, batch: Sequence[StreamPart]) -> None:
        """Add a batch of parts to the answer and deliver what they make."""
        is_first = not self.answer.characters
        if len(batch) > 1 and len(self.answer.events) >= JOINED_FROM:
            batch = _joined(batch)
        events = [event for part in batch if (event := self._event_of(part)) is not None]
        if events:
            self._deliver(events, True)
        if is_first and self.answer.characters:
            self._record(FirstDeltaSent, self._milliseconds())
            if self._title is not None:
                self._title.start(self._deadline.ends_at)
        if self._characters > MAX_CHARACTERS or len(self.answer.events) > MAX_EVENTS:
            raise AnswerFailed(FailureCode.AI_INVALID, "it does not end")

    def _tell_title(self, title: str) -> None:
        """Tell the client of the title, unless the answer is at its end."""
        if not self._is_ending:
            self._deliver([self.answer.add_title(title)], True)

    def _event_of(self, part: StreamPart) -> Event | None:
        """Add a part to the answer and return the event that it makes, if any."""
        if isinstance(part, TextDelta):
            self._characters += len(part.text)
            text = self._room.fit(part.text)
            return self.answer.append_text(text) if text else None
        if isinstance(part, ReasoningDelta):
            self._characters += len(part.text)
            text = self._room.fit(part.text)
            return self.answer.append_reasoning(text) if text else None
        if isinstance(part, SourcesAdded):
            self._characters += sum(len(source.title) + len(source.url) for source in part.sources)
            return self.answer.add_sources(part.sources)
        if isinstance(part, Finish):
            self._finish_reason = part.reason
        elif isinstance(part, Dropped):
            self.answer.dropped = part.events
        else:
            self._usage = part
        return None

    async def _finish(self, outcome: Outcome) -> None:
        """Store the end, then deliver it: this answer's, or what another process stored in its place."""
        answer, self._is_ending = self.answer, True
        usage = self._usage or self._estimated_usage()
        final = FinalAnswer(outcome, answer.text, answer.reasoning, answer.sources, usage, self._deps.now())
        result = await self._final_store.store(final)
        if result.stored_by_other is not None:
            self._deliver([restart(result.stored_by_other)], True)
            self._deliver(replay(result.stored_by_other)[1:], False)
        else:
            last = answer.end(outcome, usage, result.is_saved, result.is_truncated)
            let_go = self._lease.discard if result.is_deleted else self._lease.release
            # Begun together, they share a round trip.
            await asyncio.gather(let_go(), self._admission.release(self._tokens_used()))
            self._deliver(last, True)
            if result.is_saved:
                await self._tidy_up()
        self._record(AnswerEnded, self._milliseconds())

    async def _tidy_up(self) -> None:
        """Store what helps later; the client, who has all of the answer, does not wait for this."""
        chats, identity = self._deps.chats, self.answer.identity
        try:
            await chats.make_searchable(identity.chat_id, identity.message_id)
            if self._window_from != self._started.window_from:
                await chats.keep_window(identity.chat_id, self._window_from)
        except StorageUnavailable:
            logger.warning("an answer cannot be searched")

    async def _close(self, checkpoints: asyncio.Task[None]) -> None:
        """End what serves this answer. Each part begins with what matters, so that it is done also if cancelled."""
        checkpoints.cancel()
        try:
            await asyncio.wait([checkpoints])
        finally:
            try:
                await self._lease.close()
            finally:
                await self._admission.release(self._tokens_used())

    def _record(self, kind: Callable[[Answer, str, float], TelemetryEvent], milliseconds: float) -> None:
        """Record once what is on its way to the client and to the AI has left; records keep their order."""
        event = kind(self.answer, self._new.user_id, milliseconds)
        asyncio.get_running_loop().call_soon(self._deps.telemetry.record, event)

    def _estimated_usage(self) -> Usage:
        if not self._messages:
            return Usage(0, 0)
        output = estimate_tokens(self.answer.text) + estimate_tokens(self.answer.reasoning)
        return Usage(estimate_input(self._messages), output, estimated=True)

    def _tokens_used(self) -> int:
        usage = self.answer.usage or self._estimated_usage()
        return usage.input_tokens + usage.output_tokens + (self._title.tokens if self._title else 0)

    def _milliseconds(self) -> float:
        return (asyncio.get_running_loop().time() - self._deadline.began) * 1000


def _title_task(deps: AnswerDeps, started: Started, answer: Answer, tell: Callable[[str], None]) -> TitleTask | None:
    if deps.write_title is None or not started.wants_title:
        return None
    return TitleTask(deps.write_title, answer.identity, started.question, tell)


def _joined(batch: Sequence[StreamPart]) -> list[StreamPart]:
    """Return the batch with texts that follow each other, and reasoning likewise, in one part each."""
    joined: list[StreamPart] = []
    for kind, parts in groupby(batch, type):
        if issubclass(kind, TextDelta | ReasoningDelta):
            joined.append(kind("".join(part.text for part in cast(Iterator[TextDelta | ReasoningDelta], parts))))
        else:
            joined.extend(parts)
    return joined
