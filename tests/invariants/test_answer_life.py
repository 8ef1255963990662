"""Invariant 15: whatever happens in whatever order, an answer ends once, for a reason that was given, for everyone.

A Hypothesis state machine drives the use cases of several processes in virtual time. Beside them it keeps what each
answer may have become: a status needs its cause, and a cause that stands needs its end in time.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chat.adapters.mysql.engine import open_engine
from chat.application.cancel_answer import CancelAnswer, Cancelled, Cancelling, CancelTarget, NotActive
from chat.application.create_chat import CreateChat
from chat.application.deps import AnswerDeps, Budget
from chat.application.follow_answer import AWAY_SECONDS, FollowAnswer, FollowRequest
from chat.application.ports import Finish
from chat.application.recover_orphans import OrphanRecovery
from chat.application.run_answer import AnswerRun
from chat.application.start_answer import SendMessage, StartAnswer
from chat.domain.errors import (
    AnswerFailed,
    ChatNotFound,
    FailureCode,
    IdempotencyConflict,
    StorageUnavailable,
    StreamInProgress,
)
from chat.domain.events import Event
from chat.domain.model import (
    ROOT,
    AnswerIds,
    NewAnswer,
    QuestionAnswer,
    Started,
    Status,
    StoredAnswer,
    new_id,
)
from chat.settings import Secret
from tests.kit import counts
from tests.kit.coordination import NoRateLimiter, RecordingTelemetry
from tests.kit.simulated_stores import (
    ANSWERING,
    BEAT_SECONDS,
    INTENT_SECONDS,
    DistantChats,
    DistantCoordination,
    FedAI,
    HereMemoryChats,
    HereSqlChats,
    Network,
    TreeRow,
)
from tests.kit.virtual_time import PROCESS, Process, VirtualLoop

STEPS = 50
USER, FOREIGNER = "user-1", "user-2"
SESSIONS = ["phone", "tablet"]
MARGIN_SECONDS = 5.0
CHECKPOINT_SECONDS = 5.0
SLACK_SECONDS = 1.0
"""More than all that is slow by chance takes together."""
DEATH_SECONDS = 31.0
"""Longer without a sign of life is death, whether Redis can be asked or not."""
STORING_SECONDS = 10.0
"""Longer than an end is tried on MySQL."""
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

whiches = st.integers(0, 30)
chats = st.integers(0, 1)
sessions = st.sampled_from(SESSIONS)
pauses = st.sampled_from([0.0, 0.005, 0.02, 0.06, 0.3])
steps: list[int] = []
"""Taken by all runs together."""


def latest(things: list, which: int):
    """Return one of them, mostly one of the last."""
    return things[-1 - which % len(things)]


@dataclass
class Known:
    """What is known of one answer, and what it may become."""

    identity: AnswerIds
    owner: "Service"
    deadline_at: float
    task: asyncio.Task | None = None
    said: str = ""
    is_told_to_finish: bool = False
    is_told_to_fail: bool = False
    is_named: bool = False
    """A cancel named it."""
    may_be_interrupted: bool = False
    redis_failed: bool = False
    mysql_failed: bool = False
    due_at: float = inf
    """By then it must have ended, if its owner runs and nothing has failed."""
    delivered: list[tuple[float, str]] = field(default_factory=list)
    """What its owner's client had, and when."""
    unsaved: tuple[str, str] | None = None
    """The status and the text of a `done` that said it was not stored."""
    final: StoredAnswer | None = None

    @property
    def id(self) -> str:
        return self.identity.message_id

    @property
    def has_failed(self) -> bool:
        return self.redis_failed or self.mysql_failed

    @property
    def is_over(self) -> bool:
        """The AI has nothing more to say."""
        return self.is_told_to_finish or self.is_told_to_fail

    def is_due(self, at: float) -> None:
        self.due_at = min(self.due_at, at)

    def may_be(self, status: Status, now: float) -> bool:
        return {
            Status.STREAMING: True,
            Status.COMPLETED: self.is_told_to_finish,
            Status.FAILED: self.is_told_to_fail,
            Status.CANCELLED: self.is_named,
            Status.TIMEOUT: now >= self.deadline_at - MARGIN_SECONDS - 0.001,
            Status.INTERRUPTED: self.may_be_interrupted
            or (self.redis_failed and self.mysql_failed)
            or self.owner.stood_still(now) > (6 if self.redis_failed else 9),
        }[status]

    def safe_text(self) -> str:
        """What its owner had delivered a beat before it stopped; with Redis failing, a checkpoint before."""
        stopped_at = self.owner.stopped_at
        if stopped_at is None or (self.redis_failed and self.mysql_failed):
            return ""
        ago = CHECKPOINT_SECONDS + SLACK_SECONDS if self.redis_failed else BEAT_SECONDS + 0.01
        safe = [text for at, text in self.delivered if at <= stopped_at - ago]
        return safe[-1] if safe else ""


Seen = list[tuple[Event, bool]]
"""Events in the order in which a client received them, and whether each had an id."""


class Watcher:
    """One client: what it has received, and whether it stays to the end."""

    def __init__(self, life: "Life", known: Known, service: "Service", is_owners: bool = False) -> None:
        self.life, self.known, self.service, self.is_owners = life, known, service, is_owners
        self.seen: Seen = []
        self.last_id: int | None = None
        """The number in the last id that came; it stays when events without ids follow, also after a `start`."""
        self.text = ""
        self.has_left = False
        self.done: dict | None = None

    def __call__(self, events, with_ids=True) -> None:
        for event in events:
            if self.has_left:
                return
            self.life.expect(self.done is None, "an event after `done`")
            self.take(event, with_ids)

    def resumes(self, seen: "Seen") -> None:
        """Begin as a client that has these."""
        for event, has_id in seen:
            self.take(event, has_id)

    def take(self, event: Event, has_id: bool) -> None:
        self.seen.append((event, has_id))
        if has_id and event.name != "done":
            is_next = event.number in (0, 1) if event.name == "start" else event.number == (self.last_id or 0) + 1
            self.life.expect(is_next, "a gap, or a repeat")
            self.last_id = event.number
        if event.name == "start":
            self.life.expect(json.loads(event.data)["messageId"] == self.known.id, "another answer")
            self.text = ""
        elif event.name == "":
            self.text += json.loads(event.data)["delta"]
            self.life.expect(self.known.said.startswith(self.text), "a text that the AI did not say")
            if self.is_owners:
                self.known.delivered.append((self.life.now, self.text))
        elif event.name == "done":
            self.done = json.loads(event.data)
            self.check_end(self.done)

    def check_end(self, done: dict) -> None:
        """`done` comes after the end was stored, and says what is stored."""
        stored = self.life.peek(self.known)
        if done.get("saved", True):
            told = (done["status"], self.text)
            self.life.expect(told == (stored.status, stored.text), f"`done` says {told}, MySQL {stored}")
        else:
            # Or another has ended it before MySQL went, and its owner, which was frozen, cannot see that.
            has_just_failed = self.life.now - self.life.mysql_failed_at < STORING_SECONDS
            is_excused = self.known.mysql_failed or not self.life.mysql.is_well or has_just_failed
            self.life.expect(is_excused, "not saved, though MySQL was there")
            self.known.unsaved = (done["status"], self.text)


class Service(Process):
    """One process of the service."""

    def __init__(self, life: "Life") -> None:
        super().__init__()
        self.is_dead = False
        self.stopped_at: float | None = None
        self.ai = FedAI()
        telemetry = RecordingTelemetry()
        recover = OrphanRecovery(life.chats, life.coordination, life.coordination, telemetry, life.clock)
        budget = Budget(1000, 100, MARGIN_SECONDS, CHECKPOINT_SECONDS)
        self.create = CreateChat(life.chats, life.limits, telemetry, life.clock)
        deps = AnswerDeps(life.chats, life.coordination, self.ai, telemetry, budget, life.clock)
        self.follow = FollowAnswer(life.chats, life.coordination, recover, life.limits, telemetry)
        self.cancel = CancelAnswer(life.chats, life.coordination, recover, life.limits, telemetry, life.clock)
        self.start_answer = StartAnswer(deps, life.limits, recover, self.cancel)

    def stood_still(self, now: float) -> float:
        return 0 if self.stopped_at is None else now - self.stopped_at


class Life(RuleBasedStateMachine):
    """Two chats, two sessions, three processes."""

    def __init__(self, store: Callable[[], HereMemoryChats | HereSqlChats]) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.here = store()
        self.known: dict[str, Known] = {}
        self.watchers: list[Watcher] = []
        self.messages: list[tuple[str, str, str]] = []
        """Chat, id and content of each message, sent or not."""
        self.attempts: list[tuple[tuple[str, str], str]] = []
        """Chat and message of each attempt at another answer, and its id."""
        self.intents: dict[tuple[str, str], tuple[float, bool]] = {}
        """When a cancel was left for a message to come, and whether it was acknowledged."""
        self.cancelling: list[tuple[str, str, CancelTarget]] = []
        """Cancels under way: chat, session and target."""
        self.dead: list[Service] = []
        self.faults: list[str] = []
        self.mysql_failed_at = -inf

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        random = Random(seed)
        self.mysql, self.redis = Network(random), Network(random)
        self.chats = DistantChats(self.here, self.mysql, self.opened)
        self.coordination, self.limits = DistantCoordination(self.redis), NoRateLimiter()
        self.services = [Service(self) for _ in range(3)]
        self.chat_ids = [self.ask(self.services[0], self.new_chat)[0] for _ in range(2)]

    # What is known

    @property
    def now(self) -> float:
        return self.loop.time()

    def clock(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.now)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Remember a fault: raised where it is found, it would be taken for one of the service's."""
        if not holds:
            self.faults.append(otherwise)

    def peek(self, known: Known) -> StoredAnswer:
        found = self.here.peek(known.identity.chat_id, known.id)
        assert found is not None
        return found

    @property
    def is_well(self) -> bool:
        return self.redis.is_well and self.mysql.is_well

    def known_of(self, message: tuple[str, str, str]) -> Known | None:
        """Return the newest answer to a message."""
        there = [known for known in self.known.values() if known.identity.user_message_id == message[1]]
        return there[-1] if there else None

    def running(self, which: int) -> Service | None:
        there = [service for service in self.services if service.stopped_at is None]
        return there[which % len(there)] if there else None

    def listening(self, which: int) -> Known | None:
        """Return an answer whose AI may still say something."""
        there = [
            known
            for known in self.known.values()
            if known.id in known.owner.ai.calls and known.final is None and not (known.is_over or known.owner.is_dead)
        ]
        return there[which % len(there)] if there else None

    def named_by(self, chat_id: str, session: str, target: CancelTarget) -> list[Known]:
        """Return what this target names at this moment."""
        there = [known for known in self.known.values() if known.identity.chat_id == chat_id]
        if target.message_id is not None:
            return [known for known in there if known.id == target.message_id]
        if target.user_message_id is not None:
            return [known for known in there if known.identity.user_message_id == target.user_message_id][-1:]
        return [known for known in there if known.identity.session_id == session and self.peek(known).is_active]

    def opened(self, opening: NewAnswer, opened: Started) -> None:
        """A row has been stored: may it be there?"""
        who = opening.identity
        for other in self.known.values():
            if other.identity.chat_id != who.chat_id:
                continue
            stored = self.peek(other)
            if other.identity.session_id == who.session_id:
                self.expect(not stored.is_active, "two active answers in one session")
            if other.identity.user_message_id == who.user_message_id:
                self.expect(not stored.is_active, "two answers at once to one message")
        newest = self.newest_to(who.chat_id, who.user_message_id, before=who.message_id)
        is_asked_for = opening.is_regeneration or newest is None or Status(newest.status).retryable
        self.expect(is_asked_for, "another answer that nobody asked for")
        self.check_path(opening, opened)
        service = PROCESS.get()
        assert isinstance(service, Service)
        known = Known(who, service, (opening.deadline_at - BEGINNING).total_seconds())
        known.redis_failed, known.mysql_failed = not self.redis.is_well, not self.mysql.is_well
        known.may_be_interrupted = self.mysql.loses_reply  # then it has no owner
        known.is_due(known.deadline_at - MARGIN_SECONDS + SLACK_SECONDS)
        self.known[known.id] = known
        self.apply_cancels(known, opened)

    def newest_to(self, chat_id: str, user_message_id: str, before: str) -> TreeRow | None:
        rows = [row for row in self.here.tree(chat_id) if row.reply_to == user_message_id and row.id != before]
        return rows[-1] if rows else None

    def check_path(self, opening: NewAnswer, opened: Started) -> None:
        """The AI gets what lies between the message and the beginning of its chat, and nothing of another branch."""
        rows = self.here.tree(opening.identity.chat_id)
        by_id = {row.id: row for row in rows}
        path, parent = [], by_id[opening.identity.user_message_id].parent_id
        while parent:
            answer = by_id[parent]
            question = by_id[answer.reply_to]
            asides = [row for row in rows if row.is_aside and row.reply_to == question.id and row.id != answer.id]
            told = [row.content for row in asides if row.content and row.status != Status.STREAMING]
            said = told[-1] if told else answer.content
            if answer.status != Status.STREAMING and (said or answer.error_code != FailureCode.AI_REJECTED):
                path.insert(0, QuestionAnswer(question.content, said))
            parent = question.parent_id
        got = list(opened.history)
        is_enough = sum(len((one.question + one.answer).encode()) for one in got) >= 3000
        self.expect(path[len(path) - len(got) :] == got and (is_enough or len(got) == len(path)), "another path")

    def apply_cancels(self, known: Known, opened: Started) -> None:
        """Those that came before the message, and those that come at the same time."""
        left_at, is_acknowledged = self.intents.get(
            (known.identity.chat_id, known.identity.user_message_id), (-inf, False)
        )
        if opened.is_first and left_at > -inf:
            known.is_named = True
            if is_acknowledged and self.now < left_at + INTENT_SECONDS - SLACK_SECONDS:
                known.is_due(self.now + SLACK_SECONDS)
        for cancel in self.cancelling:
            known.is_named |= known in self.named_by(*cancel)

    # How it is asked

    def pass_time(self, seconds: float) -> None:
        self.loop.run(asyncio.sleep(seconds))

    def ask(self, service: Service, *requests: Callable[[Service], Coroutine]) -> list:
        """Make requests at once and return their responses, which must not take long."""

        async def make():
            tasks = [service.start(request(service)) for request in requests]
            _, late = await asyncio.wait(tasks, timeout=15)
            assert not late, "a response that does not come"
            return [task.result() for task in tasks]

        mysql, redis = self.mysql.failures, self.redis.failures
        outcomes = self.loop.run(make())
        if StorageUnavailable in outcomes:
            assert (mysql, redis) != (self.mysql.failures, self.redis.failures), "503 though both stores were there"
        return outcomes

    async def new_chat(self, service: Service) -> str:
        return (await service.create(USER, None, None, None)).id

    def sending(self, chat_id: str, session: str, message_id: str, content: str | None, seconds: float = 900.0, **more):
        async def send(service: Service):
            message = SendMessage(chat_id, USER, session, content, message_id, seconds, **more)
            try:
                found = await service.start_answer(message)
            except (StreamInProgress, IdempotencyConflict, StorageUnavailable) as refusal:
                return type(refusal)
            is_ours = isinstance(found, AnswerRun)
            known = self.known[(found.answer if isinstance(found, AnswerRun) else found).identity.message_id]
            ANSWERING.set(known.id)
            watcher = self.watcher(known, service, is_ours)
            stream = found if isinstance(found, AnswerRun) else await service.follow.from_stored(found, USER, session)
            task = service.start(stream.run(watcher))
            known.task = task if is_ours else known.task
            return "started" if is_ours else "followed"

        return send

    def watcher(self, known: Known, service: Service, is_owners: bool = False) -> Watcher:
        self.watchers.append(Watcher(self, known, service, is_owners))
        return self.watchers[-1]

    def send_message(self, which: int, session: str, message: tuple[str, str, str], seconds=900.0, times=1) -> None:
        service = self.running(which)
        if service is None:
            return
        chat_id, message_id, content = message
        is_busy = bool(self.named_by(chat_id, session, CancelTarget()))
        is_stored = bool(self.named_by(chat_id, session, CancelTarget(user_message_id=message_id)))
        outcomes = self.ask(service, *[self.sending(chat_id, session, message_id, content, seconds)] * times)
        assert outcomes.count("started") <= 1, "one message, two generations"
        assert is_busy or StreamInProgress not in outcomes, "refused though the session was free"
        is_other = (chat_id, message_id, content) not in self.messages
        assert (IdempotencyConflict in outcomes) <= (is_stored and is_other), "a conflict with the same content"
        if is_stored and is_other:
            assert "started" not in outcomes and "followed" not in outcomes, "other content was taken for the same"

    # What clients do

    @rule(which=whiches, chat=chats, session=sessions, seconds=st.sampled_from([900.0, 900.0, 900.0, 60.0, 14.0]))
    def send(self, which: int, chat: int, session: str, seconds: float) -> None:
        self.messages.append((self.chat_ids[chat], new_id(), f"question {len(self.messages)}"))
        self.send_message(which, session, self.messages[-1], seconds)

    @precondition(lambda self: self.known)
    @rule(which=whiches, answer=whiches, session=sessions, is_first=st.booleans(), times=st.sampled_from([1, 1, 20]))
    def edit(self, which: int, answer: int, session: str, is_first: bool, times: int) -> None:
        """A message follows an answer that may be anywhere in the chat: an old tab does not know what came since."""
        parent = latest(list(self.known.values()), answer)
        chat_id, parent_id = parent.identity.chat_id, ROOT if is_first else parent.id
        self.messages.append((chat_id, new_id(), f"question {len(self.messages)}"))
        service = self.running(which)
        if service is None:
            return
        is_busy = bool(self.named_by(chat_id, session, CancelTarget()))
        is_followable = is_first or not self.peek(parent).is_active
        sending = self.sending(chat_id, session, *self.messages[-1][1:], parent_id=parent_id)
        outcomes = self.ask(service, *[sending] * times)
        assert outcomes.count("started") <= 1, "one message, two generations"
        assert is_busy or not is_followable or StreamInProgress not in outcomes, "refused though the session was free"
        row = {row.id: row for row in self.here.tree(chat_id)}.get(self.messages[-1][1])
        assert row is None or row.parent_id == parent_id

    @precondition(lambda self: self.known)
    @rule(which=whiches, answer=whiches, session=sessions, attempt=whiches, times=st.sampled_from([1, 1, 20]))
    def regenerate(self, which: int, answer: int, session: str, attempt: int, times: int) -> None:
        who = latest(list(self.known.values()), answer).identity
        service = self.running(which)
        if service is None:
            return
        if attempt % 3 or not self.attempts:
            self.attempts.append(((who.chat_id, who.user_message_id), new_id()))
        (chat_id, message_id), attempt_id = latest(self.attempts, attempt)
        there = [known for known in self.known.values() if known.identity.user_message_id == message_id]
        is_busy = bool(self.named_by(chat_id, session, CancelTarget()))
        is_busy |= any(self.peek(known).is_active for known in there)
        count = len(there)
        sending = self.sending(chat_id, session, message_id, None, attempt_id=attempt_id)
        outcomes = self.ask(service, *[sending] * times)
        assert outcomes.count("started") <= 1, "one attempt, two generations"
        assert is_busy or StreamInProgress not in outcomes, "refused though the session was free"
        assert sum(known.identity.user_message_id == message_id for known in self.known.values()) <= count + 1

    @rule(which=whiches, chat=chats, session=sessions, times=st.sampled_from([1, 2, 5]))
    def send_over_what_is_busy(self, which: int, chat: int, session: str, times: int) -> None:
        """The session's running answer is cancelled; of several at once one is left, or the one that was there."""
        chat_id = self.chat_ids[chat]
        new = [(chat_id, new_id(), f"question {len(self.messages) + number}") for number in range(times)]
        self.messages += new
        service = self.running(which)
        if service is None:
            return
        for known in self.named_by(chat_id, session, CancelTarget()):
            known.is_named = True
        self.cancelling.append((chat_id, session, CancelTarget()))
        outcomes = self.ask(service, *[self.sending(*one[:1], session, *one[1:], cancels_busy=True) for one in new])
        self.cancelling.pop()
        active = self.named_by(chat_id, session, CancelTarget())
        assert len(active) <= 1
        if "started" in outcomes and StorageUnavailable not in outcomes and self.is_well:
            begun = [self.known_of(one) for one in new]
            assert active or all(known is None or known.is_over or known.has_failed for known in begun), "none is left"

    @precondition(lambda self: self.messages)
    @rule(which=whiches, message=whiches, session=sessions, times=st.sampled_from([1, 1, 20]))
    def send_again(self, which: int, message: int, session: str, times: int) -> None:
        self.send_message(which, session, latest(self.messages, message), times=times)

    @precondition(lambda self: self.messages)
    @rule(which=whiches, message=whiches, session=sessions)
    def send_other_content(self, which: int, message: int, session: str) -> None:
        chat_id, message_id, _ = latest(self.messages, message)
        if self.named_by(chat_id, session, CancelTarget(user_message_id=message_id)):
            self.send_message(which, session, (chat_id, message_id, "something else"))

    @precondition(lambda self: self.known)
    @rule(which=whiches, answer=whiches, session=sessions, by=st.sampled_from(["session", "message", "question"]))
    def cancel(self, which: int, answer: int, session: str, by: str) -> None:
        who = latest(list(self.known.values()), answer).identity
        targets = {
            "session": CancelTarget(),
            "message": CancelTarget(message_id=who.message_id),
            "question": CancelTarget(user_message_id=who.user_message_id),
        }
        self.ask_to_cancel(which, who.chat_id, session, targets[by])

    @rule(which=whiches, chat=chats, session=sessions)
    def cancel_what_was_not_sent_yet(self, which: int, chat: int, session: str) -> None:
        self.messages.append((self.chat_ids[chat], new_id(), f"question {len(self.messages)}"))
        self.ask_to_cancel(which, self.chat_ids[chat], session, CancelTarget(user_message_id=self.messages[-1][1]))

    @precondition(lambda self: self.known)
    @rule(which=whiches, answer=whiches, user=st.sampled_from([FOREIGNER, None]))
    def cancel_by_others(self, which: int, answer: int, user: str | None) -> None:
        who = latest(list(self.known.values()), answer).identity
        self.ask_to_cancel(which, who.chat_id, "foreign", CancelTarget(message_id=who.message_id), user)

    @rule(which=whiches, chat=chats)
    def cancel_what_never_was(self, which: int, chat: int) -> None:
        self.ask_to_cancel(which, self.chat_ids[chat], "phone", CancelTarget(message_id=new_id()))

    @rule(which=whiches, chat=chats, session=sessions, is_known=st.booleans())
    def send_and_cancel_at_once(self, which: int, chat: int, session: str, is_known: bool) -> None:
        self.messages.append((self.chat_ids[chat], new_id(), f"question {len(self.messages)}"))
        target = CancelTarget(user_message_id=self.messages[-1][1] if is_known else None)
        self.ask_to_cancel(which, self.chat_ids[chat], session, target, also=self.messages[-1])

    def ask_to_cancel(self, which, chat_id, session, target, user=USER, also=None) -> None:
        service = self.running(which)
        if service is None:
            return

        async def cancel(service: Service):
            try:
                return await service.cancel(chat_id, user, session, target)
            except (ChatNotFound, StorageUnavailable) as refusal:
                return type(refusal)

        named = self.named_by(chat_id, session, target) if user == USER else []
        was_cancelled = [known for known in named if known.final and known.final.status is Status.CANCELLED]
        # By session, an answer that somebody has cancelled before may end before it is looked for.
        may_have_ended = [known for known in named if known.is_named and target == CancelTarget()]
        for known in named:
            known.is_named = True
        intent = (chat_id, target.user_message_id)
        is_intent = user == USER and target.user_message_id is not None and not named
        if is_intent:
            self.intents[intent] = (self.now, False)
        self.cancelling.append((chat_id, session, target))
        more = [self.sending(chat_id, session, *also[1:], 900.0)] if also else []
        outcome, *_ = self.ask(service, cancel, *more)
        self.cancelling.pop()
        if is_intent:
            self.intents[intent] = (self.now, outcome == Cancelling(None))
        assert (outcome is ChatNotFound) == (user != USER) or outcome is StorageUnavailable
        if was_cancelled:
            assert isinstance(outcome, Cancelled) or outcome is StorageUnavailable, "not idempotent"
        self.check_outcome(outcome, [known for known in named if known not in may_have_ended])

    def check_outcome(self, outcome, named: list[Known]) -> None:
        if isinstance(outcome, Cancelled):
            known = self.known[outcome.answer.identity.message_id]
            assert known.is_named
            assert self.peek(known).status is Status.CANCELLED
        elif outcome == NotActive():
            for known in named:
                stored = self.peek(known)
                assert not stored.is_active and stored.status is not Status.CANCELLED
        elif isinstance(outcome, Cancelling) and outcome.message_id:
            known = self.known[outcome.message_id]
            assert known.owner.stopped_at is not None or known.has_failed, "a cancel that its owner did not hear"
            known.is_due(self.now + SLACK_SECONDS)

    @precondition(lambda self: self.watchers)
    @rule(which=whiches, watcher=whiches, after=st.none() | st.integers(0, 12), session=sessions)
    def watch(self, which: int, watcher: int, after: int | None, session: str) -> None:
        """Another device looks, or this one comes back with what it has."""
        known = latest(self.watchers, watcher)
        had = known.seen[:after] if after else []
        has_all = any(event.name == "done" for event, _ in had)
        self.look(which, known.known, session, [] if has_all else had)

    def look(self, which: int, known: Known, session: str, had: Seen) -> None:
        service = self.running(which)
        if service is None:
            return
        was_dead = known.owner.is_dead and known.owner.stood_still(self.now) > DEATH_SECONDS

        async def follow(service: Service):
            wanted = FollowRequest(
                message_id=known.id, after=next((e.number for e, has_id in reversed(had) if has_id), None)
            )
            try:
                following = await service.follow(known.identity.chat_id, USER, session, wanted)
            except StorageUnavailable:
                return StorageUnavailable
            assert following is not None
            watcher = self.watcher(known, service)
            watcher.resumes(had)
            service.start(following.run(watcher))
            return "followed"

        (outcome,) = self.ask(service, follow)
        assert not (was_dead and outcome == "followed" and self.peek(known).is_active), "dead, and nobody's"

    @precondition(lambda self: self.watchers and not self.redis.is_away)
    @rule(which=whiches, watcher=whiches, session=sessions)
    def is_cut_in_an_outage_of_redis(self, which: int, watcher: int, session: str) -> None:
        """It is served from MySQL, loses its connection, and comes back when Redis is back."""
        known = latest(self.watchers, watcher)
        self.redis_fails("goes or comes")
        self.feed(which, "c ", "d ")
        self.pass_time(AWAY_SECONDS + CHECKPOINT_SECONDS + SLACK_SECONDS)
        known.has_left = True
        self.redis_fails("goes or comes")
        self.pass_time(SLACK_SECONDS)
        if not known.done:
            self.look(which, known.known, session, known.seen)

    @precondition(lambda self: self.watchers)
    @rule(watcher=whiches)
    def leave(self, watcher: int) -> None:
        latest(self.watchers, watcher).has_left = True

    # What the AI does

    @rule(which=whiches, text=st.sampled_from(["a ", "b ", "한국어 ", "🙂"]), times=st.integers(1, 5), pause=pauses)
    def say(self, which: int, text: str, times: int, pause: float) -> None:
        for _ in range(times):
            self.feed(which, text)
            self.pass_time(pause)

    @rule(which=whiches, pause=pauses)
    def finish(self, which: int, pause: float) -> None:
        if known := self.feed(which, "end", Finish("stop"), None):
            known.is_told_to_finish = True
        self.pass_time(pause)

    @rule(which=whiches, code=st.sampled_from([FailureCode.AI_ERROR, FailureCode.AI_INCOMPLETE]), pause=pauses)
    def fail(self, which: int, code: FailureCode, pause: float) -> None:
        if known := self.feed(which, AnswerFailed(code)):
            known.is_told_to_fail = True
        self.pass_time(pause)

    def feed(self, which: int, *said) -> Known | None:
        known = self.listening(which)
        if known is not None:
            known.said += "".join(part for part in said if isinstance(part, str))
            for part in said:
                known.owner.ai.calls[known.id].put_nowait(part)
            if not isinstance(said[-1], str):
                known.is_due(self.now + SLACK_SECONDS)
        return known

    # What happens to the processes

    @rule(which=whiches)
    def kill(self, which: int) -> None:
        service = latest(self.services, which)
        service.freeze()
        service.is_dead = True
        service.stopped_at = self.now if service.stopped_at is None else service.stopped_at
        for known in self.owned(service):
            known.may_be_interrupted = True
        for watcher in self.watchers:
            watcher.has_left |= watcher.service is service
        self.dead.append(service)
        self.services.remove(service)
        self.services.append(Service(self))

    @rule(which=whiches)
    def freeze(self, which: int) -> None:
        if service := self.running(which):
            service.freeze()
            service.stopped_at = self.now

    @rule(which=whiches, pause=pauses)
    def thaw(self, which: int, pause: float) -> None:
        frozen = [service for service in self.services if service.is_frozen]
        if frozen:
            self.wake(frozen[which % len(frozen)])
            self.pass_time(pause)

    def wake(self, service: Service) -> None:
        for known in self.owned(service):
            known.may_be_interrupted |= known.may_be(Status.INTERRUPTED, self.now)
            known.due_at = max(known.due_at, self.now + SLACK_SECONDS)
        service.stopped_at = None
        self.loop.run(self.thawing(service))

    @staticmethod
    async def thawing(service: Service) -> None:
        service.thaw()

    def owned(self, service: Service) -> list[Known]:
        return [known for known in self.known.values() if known.owner is service]

    @rule(which=whiches, pause=pauses)
    def server_ends_a_request(self, which: int, pause: float) -> None:
        """Its client's connection ends with it. In the midst of its end an answer is left to the reaper."""
        known = self.listening(which)
        if known is None or known.task is None or known.owner.stopped_at is not None or known.may_be_interrupted:
            return
        known.may_be_interrupted = True
        if known.is_named or self.now > known.deadline_at - MARGIN_SECONDS - SLACK_SECONDS:
            known.due_at = inf
        else:
            known.is_due(self.now + SLACK_SECONDS)
        for watcher in self.watchers:
            watcher.has_left |= watcher.known is known and watcher.is_owners
        self.loop.call_soon(known.task.cancel)
        self.pass_time(pause)

    # What happens to the stores, and to time

    @rule(what=st.sampled_from(["goes or comes", "forgets", "loses a reply"]))
    def redis_fails(self, what: str) -> None:
        if what == "forgets":
            self.coordination.forget()
            self.intents = {intent: (at, False) for intent, (at, _) in self.intents.items()}
        self.network_fails(self.redis, what)
        for known in self.known.values():
            known.redis_failed |= known.final is None

    @rule(what=st.sampled_from(["goes or comes", "loses a reply"]))
    def mysql_fails(self, what: str) -> None:
        """When a reply is lost, the next statement is done, and its caller does not hear of it."""
        self.network_fails(self.mysql, what)
        self.mysql_failed_at = self.now
        for known in self.known.values():
            known.mysql_failed |= known.final is None

    def network_fails(self, network: Network, what: str) -> None:
        if what == "goes or comes":
            network.is_away = not network.is_away
        elif what == "loses a reply":
            network.loses_reply = True

    @rule()
    def redis_loses_messages(self) -> None:
        """Without being away: the poll must find the key."""
        self.coordination.loses_messages = not self.coordination.loses_messages

    @rule(seconds=st.sampled_from([0.005, 0.06, 0.2, 1.0, 4.0, 11.0, 20.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    # What holds after every step

    @invariant()
    def nothing_was_found_on_the_way(self) -> None:
        assert not self.faults, self.faults
        assert not self.loop.errors, self.loop.errors
        steps.append(1)

    @invariant()
    def an_answer_ends_once_and_for_a_reason(self) -> None:
        for known in self.known.values():
            stored = self.peek(known)
            if known.final is not None:
                assert stored == known.final, "an end that changed"
                continue
            assert known.said.startswith(stored.text), "stored what the AI did not say"
            assert known.may_be(stored.status, self.now), f"{stored.status} without a cause: {known}"
            if stored.is_active:
                is_late = self.now > known.due_at and known.owner.stopped_at is None and not known.has_failed
                assert not is_late, f"it should have ended: {known}"
            else:
                known.final = stored
                self.check_final(known, stored)

    def check_final(self, known: Known, stored: StoredAnswer) -> None:
        assert stored.text.startswith(known.safe_text()), f"lost what was delivered: {known}"
        if stored.status is Status.COMPLETED:
            assert stored.text == known.said, f"completed without its end: {known}"
        if known.unsaved and not known.redis_failed:
            assert known.unsaved == (stored.status, stored.text), "another end than the one that was told"

    @invariant()
    def messages_are_a_tree(self) -> None:
        """Every message follows an answer that was stored before it, and an answer stands aside only for others."""
        for chat_id in getattr(self, "chat_ids", []):
            rows = self.here.tree(chat_id)
            assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
            answers: dict[str, TreeRow] = {}
            questions: dict[str, TreeRow] = {}
            for row in rows:
                if row.reply_to is None:
                    assert row.parent_id == ROOT or row.parent_id in answers, "it follows nothing that is there"
                    questions[row.id] = row
                else:
                    assert row.reply_to in questions, "it answers nothing that is there"
                    answers[row.id] = row
            assert any(not row.is_aside for row in answers.values()) or not answers, "no branch is the active one"

    @invariant()
    def the_ai_is_asked_once_for_each_answer(self) -> None:
        for service in getattr(self, "services", []):
            for message_id, count in service.ai.counts.items():
                assert count == 1, message_id

    # How it comes to rest

    def teardown(self) -> None:
        try:
            if hasattr(self, "chat_ids"):
                self.come_to_rest()
        finally:
            self.close()

    def come_to_rest(self) -> None:
        """Everything is back; whoever waits gets an end, and whoever looks finds one."""
        self.mysql_failed_at = self.now
        self.mysql.is_away = self.redis.is_away = self.mysql.loses_reply = self.redis.loses_reply = False
        for service in self.services:
            if service.is_frozen:
                self.wake(service)
        self.pass_time(SLACK_SECONDS)
        while self.listening(0):
            self.finish(0, 0.0)
        self.pass_time(DEATH_SECONDS + SLACK_SECONDS)
        for known in list(self.known.values()):
            self.look(0, known, "last", [])
        self.pass_time(DEATH_SECONDS + SLACK_SECONDS)
        self.an_answer_ends_once_and_for_a_reason()
        self.nothing_was_found_on_the_way()
        for known in self.known.values():
            assert known.final is not None, f"stuck: {known}"
        for watcher in self.watchers:
            assert watcher.has_left or watcher.done, f"no end for a client of {watcher.known}"
        # The places of the dead, and of what never had an owner, expire.
        left = [known for known in self.known.values() if known.owner.is_dead or known.task is None]
        for place in self.limits.places:
            message_id = place.message.rpartition(":")[2]
            assert message_id in [known.identity.user_message_id for known in left], "a place that was not given back"
        assert all(line.process in self.dead for line in self.coordination.lines), "a line that was not closed"

    def close(self) -> None:
        """Let the dead finish, without any store, so that nothing is left of them."""
        if hasattr(self, "chat_ids"):
            self.mysql.is_away = self.redis.is_away = True
            self.loop.run(self.end([*self.services, *self.dead]))
        self.loop.close()

    @staticmethod
    async def end(services: list[Service]) -> None:
        for service in services:
            service.thaw()
            for task in service.tasks:
                task.cancel()
        tasks = [task for service in services for task in service.tasks]
        await asyncio.gather(*tasks, return_exceptions=True)


def run(store: Callable[[], HereMemoryChats | HereSqlChats], least: int) -> None:
    """Take at least so many steps."""
    steps.clear()
    run_state_machine_as_test(
        lambda: Life(store),
        settings=settings(
            max_examples=counts.of(least) * 5 // 4 // STEPS,  # some runs are shorter
            stateful_step_count=STEPS,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller case takes minutes to find
            derandomize=not counts.is_full(),
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert len(steps) >= counts.of(least)


def test_in_memory_ten_thousand_steps():
    run(HereMemoryChats, 10_000)


def test_on_sqlite(sqlite_url: str):
    engine = open_engine(Secret(sqlite_url))
    run(lambda: HereSqlChats(engine), 2_000)
    engine.dispose()


class Slow(Random):
    """Every way takes half a second."""

    def choice(self, seq):
        return 0.5


def test_frozen_while_it_stores_its_end_an_owner_looks_again_when_it_goes_on():
    life = Life(HereMemoryChats)
    life.begin(1)
    life.send(0, 0, "phone", 900.0)
    life.say(0, "a ", 1, 0.3)
    life.mysql.random = Slow()
    life.finish(0, 0.2)
    life.freeze(0)
    life.time_passes(40.0)
    (known,) = life.known.values()
    life.look(0, known, "tablet", [])
    life.an_answer_ends_once_and_for_a_reason()
    life.thaw(0, 5.0)
    assert life.watchers[0].done["status"] == "interrupted"
    life.nothing_was_found_on_the_way()
    life.teardown()
