"""A stored answer as events again."""

import json
from datetime import UTC, datetime

import pytest

from chat.domain.answer import Answer
from chat.domain.errors import FailureCode
from chat.domain.model import AnswerIds, Outcome, Source, Status, StoredAnswer, Usage
from chat.domain.replay import growth, join, last_events, replay

WHO = AnswerIds("chat", "message", "question", "session", "model")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stored(status=Status.COMPLETED, text="text", error_code=None, **more) -> StoredAnswer:
    values = {"reasoning": "", "sources": [], "finish_reason": None, "usage": Usage(1, 2), "finished_at": NOW}
    values.update(more)
    return StoredAnswer(
        WHO, status, text, error_code=error_code, owner_token="t", owner_seen_at=NOW, deadline_at=NOW, created_at=NOW,
        **values,
    )  # fmt: skip


def test_a_replay_says_what_is_stored():
    text, reasoning, sources = "안녕 " * 9000, "hm", [Source("t", "https://u")]
    events = replay(stored(text=text, reasoning=reasoning, sources=sources, finish_reason="stop"))
    assert join(events) == (text, reasoning, sources)
    assert (events[0].name, events[-1].name) == ("start", "done")
    done = json.loads(events[-1].data)
    assert (done["status"], done["finishReason"], done["characters"]) == ("completed", "stop", len(text))


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.FAILED, "ai_timeout"), (Status.TIMEOUT, "deadline"), (Status.INTERRUPTED, "interrupted")],
)
def test_a_failure_stands_directly_before_done(status, code):
    events = replay(stored(status, error_code=code))
    assert [event.name for event in events[-2:]] == ["failure", "done"]
    assert json.loads(events[-2].data)["code"] == code


def test_last_events_go_on_counting():
    failure, done = last_events(stored(Status.INTERRUPTED), 7)
    assert (failure.number, done.number) == (7, 0)
    assert [event.number for event in last_events(stored(Status.CANCELLED), 7)] == [0]


def test_a_replay_equals_the_live_stream_in_all_that_is_said():
    live = Answer(WHO)
    live.begin()
    live.append_reasoning("think")
    live.append_text("one ")
    live.add_sources([Source("t", "https://u")])
    live.append_text("two")
    live.end(Outcome(Status.FAILED, None, FailureCode.AI_ERROR), Usage(5, 6, True))
    again = replay(
        stored(
            Status.FAILED,
            live.text,
            "ai_error",
            reasoning=live.reasoning,
            sources=live.sources,
            usage=Usage(5, 6, True),
        )
    )
    assert join(again) == join(live.events)
    assert again[-1] == live.events[-1]


def test_growth_is_what_is_beyond():
    assert join(growth(stored(Status.STREAMING, "one two", reasoning="abc"), "one", "a")) == (" two", "bc", [])
    assert growth(stored(Status.STREAMING, "one"), "one", "") == []
    assert growth(stored(Status.STREAMING, "other"), "one", "") == []
