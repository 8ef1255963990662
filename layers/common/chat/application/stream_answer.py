"""Answer a message: store it, own the answer, generate it to its one end, and store that.

Start:  limits, then one MySQL transaction (beside it the subscription), `start`, registration and a look at the cancel
        keys, then the AI.
End:    MySQL, then the end of the log, then `done`, then the release of lease, session and limits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chat.application.ports import (
    AI,
    AdmissionRequest,
    AnswerLease,
    Chats,
    Finish,
    Journal,
    Live,
    RateLimiter,
    ReasoningDelta,
    SourcesAdded,
    StreamPart,
    TextDelta,
)
from chat.application.recover_orphans import CHECKPOINT_SECONDS, OrphanRecovery
from chat.domain.answer import Answer, Event
from chat.domain.errors import AnswerFailed, FailureCode, RateLimited, StorageUnavailable, StreamInProgress
from chat.domain.model import (
    AlreadyAnswered,
    AnswerIds,
    ChatMessage,
    FinalAnswer,
    NewAnswer,
    Outcome,
    SessionBusy,
    Started,
    Status,
    StoredAnswer,
    Usage,
    new_id,
)
from chat.domain.prompt_window import BYTES_PER_TOKEN, estimate_input, estimate_tokens, fit
from chat.domain.replay import replay, start_afresh
from chat.log_context import bind

Deliver = Callable[[Sequence[Event], bool], None]
"""Takes events for the client, and whether they carry ids; never blocks, never raises."""

STORE_SECONDS = 3.0
"""How long the end of an answer is tried on MySQL before it is parked in Redis."""
STORE_PAUSE_SECONDS = 0.2
STOOD_STILL_SECONDS = 2.0
"""A time limit that is over for longer, when it is noticed, ran out while the process was frozen."""
MOST_MARGIN = 0.4
"""The deadline's margin is at most this part of what was left at the start."""
ATTEMPTS = 3
CHECKPOINTS_AT_ONCE = 2
MOST_CHARACTERS = 2_000_000
"""Of text and reasoning: more than any model says, and in UTF-8 less than a column or a packet of MySQL takes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """A user's message on its way."""

    chat_id: str
    user_id: str
    session_id: str
    content: str
    user_message_id: str | None
    seconds_left: float
    """Until the platform ends this request."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an answer may take."""

    context_tokens: int
    output_tokens: int
    margin_seconds: float
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    store_seconds: float = STORE_SECONDS

    def margin(self, seconds_left: float) -> float:
        """Return how long before its deadline an answer stops, given what was left at the start."""
        return min(self.margin_seconds, MOST_MARGIN * seconds_left)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """Starts answers; one for each process."""

    chats: Chats
    live: Live
    limits: RateLimiter
    ai: AI
    reap: OrphanRecovery
    journal: Journal
    budget: Budget
    now: Callable[[], datetime]
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKPOINTS_AT_ONCE))
    """Who may write a checkpoint. Its threads take the interpreter from all streams."""

    async def __call__(self, send: SendMessage) -> AnswerRun | StoredAnswer:
        """Return the generation that this process now owns, or the answer that this message already has.

        Raises:
            ChatNotFound, StreamInProgress, IdempotencyConflict, RateLimited, StorageUnavailable: nothing was started.
        """
        ends_at = asyncio.get_running_loop().time() + send.seconds_left
        user_message_id = send.user_message_id or new_id()
        place = Admission(
            self.limits, AdmissionRequest(send.user_id, f"{send.chat_id}:{user_message_id}", secrets.token_hex(4))
        )
        found: AnswerRun | StoredAnswer | None = None
        try:
            async with asyncio.timeout_at(ends_at - self.budget.margin(send.seconds_left)):
                found = await self._take(place, send) or await self._open(send, user_message_id, place, ends_at)
        except TimeoutError as error:
            raise StorageUnavailable from error
        finally:
            if not isinstance(found, AnswerRun):
                await place.release(0, has_started=False)
        return found

    async def _take(self, place: Admission, send: SendMessage) -> StoredAnswer | None:
        """Take the place. Where a limit refuses it, return the answer that the message already has."""
        try:
            await place.take(estimate_tokens(send.content) + self.budget.output_tokens)
        except RateLimited as error:
            found = await self._answered(send)
            if found is None:
                self.journal.limited(send.chat_id, send.user_id, send.session_id, error.limit)
                raise
            return found
        return None

    async def _answered(self, send: SendMessage) -> StoredAnswer | None:
        """Return the answer that this message has and keeps: to follow it takes nothing that is limited.

        Raises:
            ChatNotFound, IdempotencyConflict: as without a limit.
        """
        if send.user_message_id is None:
            return None
        try:
            found = await self.chats.find_sent(send.chat_id, send.user_id, send.user_message_id, send.content)
        except StorageUnavailable:
            return None
        found = found and await self.reap(found)
        return None if found is None or found.status.retryable else found

    async def _open(
        self, send: SendMessage, user_message_id: str, place: Admission, ends_at: float
    ) -> AnswerRun | StoredAnswer:
        for _ in range(ATTEMPTS):
            generation = AnswerRun(self, send, user_message_id, place, ends_at)
            found = await generation.open()
            if found is None:
                return generation
            # In the way is an active answer, or one to the same message. If its owner is dead it ends here, and where a
            # new answer may then be started it is tried again.
            settled = await self.reap(found.answer)
            if isinstance(found, SessionBusy) and settled.is_active:
                raise StreamInProgress(settled.identity.message_id)
            if isinstance(found, AlreadyAnswered) and not settled.status.retryable:
                return settled
        raise StorageUnavailable


class Admission:
    """An attempt's place within the limits."""

    def __init__(self, limits: RateLimiter, attempt: AdmissionRequest) -> None:
        self._limits, self._attempt = limits, attempt
        self._is_taken = False

    async def take(self, tokens: int) -> None:
        self._is_taken = True  # also if nobody waits for the reply
        try:
            await self._limits.acquire(self._attempt, tokens)
        except RateLimited:
            self._is_taken = False
            raise

    async def release(self, tokens: int, has_started: bool = True) -> None:
        """Give it back, once."""
        if self._is_taken:
            self._is_taken = False
            await self._limits.release(self._attempt, tokens, has_started)


class AnswerRun:
    """One answer while its owner, this process, makes it."""

    def __init__(
        self, case: StreamAnswer, send: SendMessage, user_message_id: str, place: Admission, ends_at: float
    ) -> None:
        self._case, self._send, self._place = case, send, place
        self._began = time.monotonic()
        self._owner_token = secrets.token_hex(16)
        identity = AnswerIds(send.chat_id, new_id(), user_message_id, send.session_id, case.ai.model)
        self.answer = Answer(identity)
        self._opened: Started = Started(None)
        self._turns: list[ChatMessage] = []
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._stopped: Status | None = None
        self._scope: asyncio.Timeout | None = None
        self._deliver: Deliver = lambda events, with_ids: None
        self._ends_at = ends_at
        self._stops_at = ends_at - case.budget.margin(send.seconds_left)
        self._size = 0
        self._line: AnswerLease = case.live.claim(self.answer, self._owner_token, send.user_id, self.cancel)

    async def open(self) -> AlreadyAnswered | SessionBusy | None:
        """Store the message and the answer's row; None when the answer is ours, else what stands in its way."""
        send, case, now = self._send, self._case, self._case.now()
        deadline_at = now + timedelta(seconds=self._ends_at - asyncio.get_running_loop().time())
        opening = NewAnswer(self.answer.identity, send.user_id, send.content, self._owner_token, now, deadline_at)
        found: Started | AlreadyAnswered | SessionBusy | None = None
        try:
            found = await case.chats.open_answer(opening, case.budget.context_tokens * BYTES_PER_TOKEN)
        finally:
            if not isinstance(found, Started):
                await self._line.close()
        if not isinstance(found, Started):
            return found
        self._opened = found
        return None

    def cancel(self) -> None:
        """Stop: somebody asked for it."""
        self._stop(Status.CANCELLED)

    async def run(self, deliver: Deliver) -> None:
        """Generate, store, and deliver everything; returns when nothing of the answer runs any more."""
        who = self.answer.identity
        with bind(chatId=who.chat_id, messageId=who.message_id):
            await self._run(deliver)

    async def _run(self, deliver: Deliver) -> None:
        self._deliver = deliver
        keeper = asyncio.create_task(self._keep())
        try:
            ending = await self._generate()
        except asyncio.CancelledError:
            await self._conclude(Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED))
            raise
        else:
            await self._conclude(ending)
        finally:
            await self._leave(keeper)

    async def _leave(self, keeper: asyncio.Task[None]) -> None:
        """End what serves this answer. Each part begins with what matters, so that it is done also if cancelled."""
        keeper.cancel()
        try:
            await asyncio.wait([keeper])
        finally:
            try:
                await self._line.close()
            finally:
                await self._place.release(self._tokens_used())

    async def _generate(self) -> Outcome:
        self._emit([self.answer.begin()])
        before = self._milliseconds()
        if await self._line.register(self._opened.is_first):
            self.cancel()
        self._tell(self._case.journal.started, self._milliseconds() - before)
        if self._stopped is not None:
            return self._stop_ending()
        return await self._listen()

    async def _listen(self) -> Outcome:
        opened, budget = self._opened, self._case.budget
        try:
            self._turns = fit(opened.system_prompt, opened.history, self._send.content, budget.context_tokens)
            async with asyncio.timeout_at(self._stops_at) as self._scope:
                async with aclosing(self._case.ai.answer(self._turns, budget.output_tokens)) as batches:
                    async for batch in batches:
                        self._take(batch)
        except TimeoutError:
            return self._stop_ending()
        except AnswerFailed as failure:
            log.warning("the AI failed", extra={"code": failure.code, "detail": failure.detail})
            failure.__traceback__ = None  # its frames hold it and the conversation, in a knot for the garbage collector
            return Outcome(Status.FAILED, None, failure.code)
        except Exception:
            # The answer must end, and be stored, whatever went wrong; the fault is ours and is logged.
            log.exception("an answer failed")
            return Outcome(Status.FAILED, None, FailureCode.INTERNAL_ERROR)
        finally:
            self._scope = None
        return Outcome(Status.COMPLETED, self._finish_reason)

    def _take(self, batch: Sequence[StreamPart]) -> None:
        events: list[Event] = []
        is_first = not self.answer.characters
        for piece in batch:
            if isinstance(piece, TextDelta):
                self._size += len(piece.text)
                events.append(self.answer.append_text(piece.text))
            elif isinstance(piece, ReasoningDelta):
                self._size += len(piece.text)
                events.append(self.answer.append_reasoning(piece.text))
            elif isinstance(piece, SourcesAdded):
                if event := self.answer.add_sources(piece.sources):
                    events.append(event)
            elif isinstance(piece, Finish):
                self._finish_reason = piece.reason
            else:
                self._usage = piece
        if events:
            self._emit(events)
        if is_first and self.answer.characters:
            self._tell(self._case.journal.first_delta, self._milliseconds())
        if self._size > MOST_CHARACTERS:
            raise AnswerFailed(FailureCode.AI_INVALID, "it does not end")

    async def _keep(self) -> None:
        """Write the partial text and a sign of life every few seconds."""
        while True:
            await asyncio.sleep(self._case.budget.checkpoint_seconds)
            try:
                async with self._turn():
                    is_ours = await self._case.chats.checkpoint(self.answer, self._owner_token, self._case.now())
            except StorageUnavailable:
                self._case.journal.fallback("checkpoint_missed", self.answer.identity.message_id)
                continue
            except Exception:
                log.exception("a checkpoint failed")  # the next may be taken, and the answer goes on
                continue
            if not is_ours:
                self._stop(Status.INTERRUPTED)
                return

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn, but no longer than the time between two: a slow MySQL must not make the owner look dead."""
        turns = self._case.turns
        try:
            async with asyncio.timeout(self._case.budget.checkpoint_seconds):
                await turns.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            turns.release()

    def _stop(self, status: Status) -> None:
        """End the AI's answer at once, also while it is silent; the first reason given stands."""
        self._stopped = self._stopped or status
        if self._scope is not None and not self._scope.expired():  # message and polled key both tell of a cancel
            self._scope.reschedule(0)

    def _stop_ending(self) -> Outcome:
        if self._stopped is Status.CANCELLED:
            return Outcome(Status.CANCELLED)
        if self._stopped is Status.INTERRUPTED:
            return Outcome(Status.INTERRUPTED, None, FailureCode.INTERRUPTED)
        return Outcome(Status.TIMEOUT, None, FailureCode.DEADLINE)

    async def _conclude(self, ending: Outcome) -> None:
        answer = self.answer
        usage = self._usage or self._estimated_usage()
        final = FinalAnswer(ending, answer.text, answer.reasoning, answer.sources, usage, self._case.now())
        is_saved, theirs = await self._store(final)
        if theirs is not None:
            self._deliver([start_afresh(theirs)], True)
            self._deliver(replay(theirs)[1:], False)
        else:
            last = answer.end(ending, usage, is_saved)
            # Begun together, they share a round trip.
            await asyncio.gather(self._line.release(), self._place.release(self._tokens_used()))
            self._emit(last)
        self._tell(self._case.journal.ended, self._milliseconds())

    async def _store(self, final: FinalAnswer) -> tuple[bool, StoredAnswer | None]:
        """Return whether MySQL has it; and, if someone else ended this answer first, what is stored instead."""
        loop = asyncio.get_running_loop()
        until = self._store_until(loop.time())
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await self._try_to_store(final)
            except (StorageUnavailable, TimeoutError):
                if loop.time() > until + STOOD_STILL_SECONDS:  # someone may have ended the answer meanwhile
                    until = self._store_until(loop.time())
                elif loop.time() + STORE_PAUSE_SECONDS >= until:
                    break
                else:
                    await asyncio.sleep(STORE_PAUSE_SECONDS)
            except Exception:
                log.exception("an end was not stored")  # whatever it was, the client is told how the answer ended
                break
        is_parked = await self._line.stash_final(final)
        self._case.journal.fallback("final_parked" if is_parked else "final_lost", self.answer.identity.message_id)
        return False, None

    def _store_until(self, now: float) -> float:
        return min(now + self._case.budget.store_seconds, max(self._ends_at - 0.5, now + 0.5))

    async def _try_to_store(self, final: FinalAnswer) -> tuple[bool, StoredAnswer | None]:
        who, chats = self.answer.identity, self._case.chats
        if await chats.finish(who.chat_id, who.message_id, self._owner_token, final):
            return True, None
        stored = await chats.find_answer(who.chat_id, who.message_id)
        if stored is None or stored.is_active:
            raise StorageUnavailable
        is_the_same = (stored.status, stored.text) == (final.outcome.status, final.text)
        return True, None if is_the_same else stored

    def _tell(self, line: Callable[[Answer, str, float], None], milliseconds: float) -> None:
        """Write a line once what is under way to the client and to the AI has left; lines keep their order."""
        asyncio.get_running_loop().call_soon(line, self.answer, self._send.user_id, milliseconds)

    def _emit(self, events: Sequence[Event]) -> None:
        self._deliver(events, True)

    def _estimated_usage(self) -> Usage:
        if not self._turns:
            return Usage(0, 0)
        output = estimate_tokens(self.answer.text) + estimate_tokens(self.answer.reasoning)
        return Usage(estimate_input(self._turns), output, estimated=True)

    def _tokens_used(self) -> int:
        usage = self.answer.usage or self._estimated_usage()
        return usage.input_tokens + usage.output_tokens

    def _milliseconds(self) -> float:
        return (time.monotonic() - self._began) * 1000
