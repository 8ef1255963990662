"""The soak's checker notices each kind of broken promise, and nothing where there is none (invariant 20)."""

import json
from dataclasses import replace

import pytest

from tests.soak.checks import Fault, Record, broken, growth, leaks
from tests.soak.plan import KINDS, MARKS, Plan, read
from tests.soak.view import Event, View, read_event

PLAN = Plan("plain", 7, 6, 0.1, 2)
ID = "m-1"


def answer(deltas, status="completed", message_id=ID, **more):
    """The events of an answer that says these deltas."""
    start = {"messageId": message_id, "userMessageId": "u-1"}
    parts = [("start", start), *(("message", {"delta": delta}) for delta in deltas)]
    if status in ("failed", "interrupted"):
        parts.append(("failure", {}))
    events = [Event(f"{message_id}:{at}", name, data, float(at)) for at, (name, data) in enumerate(parts, 1)]
    done = {"status": status, "characters": len("".join(deltas)), **more}
    return [*events, Event(f"{message_id}:done", "done", done)]


def seen(events) -> View:
    view = View()
    for event in events:
        view.take(event)
    return view


def record(events, plan=PLAN, **more) -> Record:
    view = seen(events)
    stored = [(view.message_id, view.done["status"] if view.done else "streaming", view.text)]
    return Record(plan, 10.0, 20.0, **{"views": [view], "stored": stored, **more})


def test_a_whole_answer_breaks_no_promise():
    assert broken(record(answer(PLAN.deltas)), []) == []


@pytest.mark.parametrize(
    ("deltas", "complaint"),
    [
        (PLAN.deltas[:-1], "5 deltas of 6"),
        (PLAN.deltas[:2] + PLAN.deltas[3:], "delta 2 of 6 is not what the AI said"),
        (PLAN.deltas[:3] + PLAN.deltas[2:], "delta 3 came twice"),
    ],
)
def test_lost_and_doubled_deltas_are_noticed(deltas, complaint):
    assert broken(record(answer(deltas)), []) == [f"stream 7 (plain): {complaint}"]


def test_a_lost_delta_is_noticed_by_the_gap_in_the_ids_also_in_an_answer_that_was_cancelled():
    plan = replace(PLAN, kind="cancel_session")
    events = answer(plan.deltas[:4], "cancelled")
    assert broken(record(events, plan), []) == []
    assert f"id {ID}:4 in place of {ID}:3" in seen(events[:2] + events[3:]).wrong
    assert broken(record(events[:2] + events[3:], plan), [])


def test_missing_doubled_and_premature_ends_are_noticed():
    events = answer(PLAN.deltas)
    assert "stream 7 (plain): no done" in broken(record(events[:-1]), [])
    assert "stream 7 (plain): a second done" in broken(record([*events, events[-1]]), [])
    late = Event(f"{ID}:8", "message", {"delta": "more"})
    assert "stream 7 (plain): message after done" in broken(record([*events, late]), [])


def test_what_is_stored_must_be_what_was_seen():
    assert broken(record(answer(PLAN.deltas), stored=[(ID, "completed", PLAN.text[:-1])]), [])
    assert broken(record(answer(PLAN.deltas), stored=[(ID, "failed", PLAN.text)]), [])
    assert broken(record(answer(PLAN.deltas), stored=[]), [])
    twice = [("m-0", "completed", PLAN.text), (ID, "completed", PLAN.text)]
    assert broken(record(answer(PLAN.deltas), stored=twice), []) == ["stream 7 (plain): 2 answers are stored"]


def test_an_interruption_is_allowed_by_a_kill_at_the_time_and_by_nothing_else():
    one = record(answer(PLAN.deltas[:3], "interrupted"), breaks=[12.0])
    assert broken(one, [Fault("killed", 12.0, 12.0)]) == []
    assert broken(one, [Fault("killed", 20.5, 20.5)])
    assert broken(one, [Fault("redis_frozen", 12.0, 15.0)])
    assert broken(one, [])


def test_refusals_and_unsaved_ends_need_a_fault():
    refused = record(answer(PLAN.deltas), refusals=["POST 503"])
    assert broken(refused, []) == ["stream 7 (plain): refused without a fault: POST 503"]
    assert broken(refused, [Fault("mysql_cut", 9.0, 9.0)]) == []
    unsaved = record(answer(PLAN.deltas, saved=False))
    assert broken(unsaved, [Fault("redis_cut", 12.0, 12.0)])
    assert broken(unsaved, [Fault("mysql_frozen", 12.0, 15.0)]) == []


def replayed(first, second, status) -> View:
    view = seen(answer(first)[:-1])
    view.reconnect()
    for event in answer(second, status):
        view.take(event)
    return view


def test_a_replay_may_lack_only_what_came_in_the_last_moment_before_a_kill():
    view = replayed(PLAN.deltas[:4], PLAN.deltas[:3], "interrupted")
    last_at = view.lost[0][1]
    one = Record(PLAN, 1.0, 20.0, [view], stored=[(ID, "interrupted", view.text)])
    assert broken(one, [Fault("killed", last_at + 0.5, last_at + 0.5)]) == []
    gone = f"stream 7 (plain): {len(PLAN.deltas[3])} delivered characters are gone"
    assert broken(one, [Fault("killed", last_at - 5, last_at - 5)]) == []  # read late
    for kill in (last_at + 5, last_at - 11):
        assert broken(one, [Fault("killed", kill, kill)]) == [gone]


def test_a_cancel_that_came_too_late_is_believed_only_beside_a_fault():
    plan = replace(PLAN, kind="cancel_message")
    late = record(answer(plan.deltas), plan, cancel="not_active")
    assert broken(late, [Fault("redis_frozen", 12.0, 15.0)]) == []
    assert broken(late, [])
    missed = record(answer(plan.deltas), plan, cancel="cancelled")
    assert broken(missed, [Fault("redis_frozen", 12.0, 15.0)])


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("is_ascii", [True, False])
def test_text_of_a_message_in_a_log_is_noticed_also_escaped(mark, is_ascii):
    line = json.dumps({"message": f"said {mark}"}, ensure_ascii=is_ascii)
    assert leaks(f'{{"message": "answer ended"}}\n{line}\n') == [line]


@pytest.mark.parametrize("kind", KINDS)
def test_every_delta_and_every_message_carries_a_marker_and_a_message_carries_its_plan(kind):
    plan = Plan(kind, 7, 12, 0.1, 2)
    assert read(plan.content) == plan
    assert all(any(mark in text for mark in MARKS) for text in [*plan.deltas, *plan.reasoning, plan.content])
    assert len(set(plan.deltas)) == plan.count


def test_growth_is_counted_from_the_end_of_the_warm_up():
    warm = [50.0] * 20 + [100.0] * 80
    assert growth(warm) == 0
    assert growth(warm[:90] + [106.0] * 10) == pytest.approx(0.06)
    assert growth([1.0] * 19) is None


def test_an_event_is_read_from_its_block():
    block = b':\nevent: reasoning\ndata: {"delta": "\xec\xbf\xbc"}\nid: m:3'
    assert read_event(block, 1.5) == Event("m:3", "reasoning", {"delta": "쿼"}, 1.5)
    assert read_event(b":", 1.5) is None
