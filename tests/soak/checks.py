"""What the soak promises of each stream, as pure functions over its record. Every tolerance is stated here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.soak.plan import MARKS, Plan
from tests.soak.view import View

KILL_LOSS_SECONDS = 1.0
"""What came to a client this shortly before its process was killed may be missing from what is stored: the flush
interval is 50 ms, the rest is for a busy machine."""
READ_LATE_SECONDS = 10.0
"""A slow client may read what was sent before the kill this much later; then it would have been given up."""
GRACE_SECONDS = {"redis_frozen": 5.0, "redis_cut": 5.0, "mysql_frozen": 10.0, "mysql_cut": 10.0, "killed": 45.0}
"""How long after a fault a stream may still show what the fault allows. After a kill: the guard's time."""
ALLOWED = {"killed": {"interrupted"}, "mysql_frozen": {"interrupted"}, "mysql_cut": {"interrupted"}}
"""Ends that a stream may have because of a fault, beside its own. With MySQL away: only if its POST had to be repeated,
because the lost reply may have been that of the COMMIT."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A disturbance, in monotonic seconds."""

    kind: str
    began: float
    ended: float

    def touches(self, began: float, ended: float) -> bool:
        """Tell whether it may show in a stream of that time."""
        return began <= self.ended + GRACE_SECONDS[self.kind] and ended >= self.began


@dataclass(slots=True)
class Record:
    """One stream, when all of it is over."""

    plan: Plan
    began: float
    ended: float
    views: list[View] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Replies that had the client ask again: `POST 503`."""
    breaks: list[float] = field(default_factory=list)
    """When connections ended before their `done` without the client's doing."""
    cancel: str = ""
    """The last reply to a cancel."""
    stored: Sequence[tuple[str, str, str]] = ()
    """Id, status and text of all answers to its message in the database."""
    problem: str = ""
    """What ended the client itself."""


def broken(record: Record, faults: Iterable[Fault]) -> list[str]:
    """Return the promises that were not kept; empty when all is well."""
    touching = [fault for fault in faults if fault.touches(record.began, record.ended)]
    hit = {fault.kind for fault in touching}
    kills = [fault.began for fault in touching if fault.kind == "killed"]
    found = [record.problem] if record.problem else []
    if record.refusals and not hit:
        found.append(f"refused without a fault: {record.refusals[0]}")
    if record.breaks and "killed" not in hit:
        found.append("a connection broke though no process was killed")
    if not record.stored or (len(record.stored) > 1 and not (hit and (record.refusals or record.breaks))):
        found.append(f"{len(record.stored)} answers are stored")  # a repeated POST may retry one that was interrupted
    for view in record.views:
        found += _wrong(view, record, hit) + _forgotten(view, record.plan, kills)
    return [f"stream {record.plan.number} ({record.plan.kind}): {what}" for what in found]


def story(record: Record, faults: Iterable[Fault]) -> str:
    """Tell what else is known of a stream that broke a promise."""
    parts = [f"cancel said {record.cancel}"] if record.cancel else []
    parts += [*record.refusals, *[f"broken after {at - record.began:.1f} s" for at in record.breaks]]
    parts += sorted({fault.kind for fault in faults if fault.touches(record.began, record.ended)})
    return f"{record.ended - record.began:.1f} s, {', '.join(parts)}"


def _wrong(view: View, record: Record, hit: set[str]) -> list[str]:
    plan, done, found = record.plan, view.done, list(view.wrong)
    if done is None:
        return [*found, "no done"]
    status = done["status"]
    if status not in _allowed(record, hit):
        found.append(f"ended {status} in place of {plan.ends}")
    is_whole = status == "completed" or (status == "failed" and plan.ends == "failed")
    if (view.text != plan.text) if is_whole else not plan.text.startswith(view.text):
        found.append(_difference(view.deltas, plan.deltas))
    if status == "completed" and "".join(view.thoughts) != "".join(plan.reasoning):
        found.append("the reasoning differs from what the AI said")
    if status == "completed" and view.sources != plan.sources:
        found.append("the sources differ from what the AI named")
    if done["characters"] != len(view.text):
        found.append(f"done counts {done['characters']} characters of {len(view.text)}")
    if done.get("saved") is False and not hit & {"mysql_frozen", "mysql_cut"}:
        found.append("not saved though MySQL was there")
    if view.restarts and not hit:
        found.append("began afresh without a fault")  # a log that is gone is replaced by what MySQL has
    stored = [(ending, text) for message_id, ending, text in record.stored if message_id == view.message_id]
    if stored != [(status, view.text)]:
        kept = [(ending, len(text)) for ending, text in stored]
        found.append(f"stored are status and characters {kept}, the client saw {(status, len(view.text))}")
    return found


def _allowed(record: Record, hit: set[str]) -> set[str]:
    allowed = {record.plan.ends}
    if record.plan.ends == "cancelled" and record.cancel == "not_active" and hit:
        allowed = {"completed"}  # asked again until the fault was over, the cancel came too late, and said so
    for kind in hit:
        if kind == "killed" or record.refusals:
            allowed |= ALLOWED.get(kind, set())
    return allowed


def _forgotten(view: View, plan: Plan, kills: Sequence[float]) -> list[str]:
    """Judge what a replay had the client forget: it must come again, but for the last moment before a kill."""
    found = []
    for text, last_at in view.lost:
        if not plan.text.startswith(text):
            found.append("what was delivered before a replay is not what the AI said")
        is_at_a_kill = any(-KILL_LOSS_SECONDS < last_at - at < READ_LATE_SECONDS for at in kills)
        if not view.text.startswith(text) and not is_at_a_kill:
            found.append(f"{len(text) - len(view.text)} delivered characters are gone")
    return found


def _difference(got: Sequence[str], said: Sequence[str]) -> str:
    at = next((at for at, (one, other) in enumerate(zip(got, said, strict=False)) if one != other), None)
    if at is None:
        return f"{len(got)} deltas of {len(said)}"
    if at and got[at] == said[at - 1]:
        return f"delta {at} came twice"
    return f"delta {at} of {len(said)} is not what the AI said"


def leaks(log: str) -> list[str]:
    """Return lines of a log that contain text of a message."""
    escaped = [json.dumps(mark)[1:-1] for mark in MARKS]
    return [line[:200] for line in log.splitlines() if any(mark in line for mark in (*MARKS, *escaped))]


def growth(samples: Sequence[float]) -> float | None:
    """Return by which part memory has grown since the warm-up, a fifth of the time; None with too few samples."""
    if len(samples) < 20:
        return None
    warm, window = len(samples) // 5, max(len(samples) // 10, 3)
    first, last = _median(samples[warm : warm + window]), _median(samples[-window:])
    return last / first - 1


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
