"""The state machine of an answer."""

import json

import pytest

from chat.domain.answer import Answer, IllegalTransition
from chat.domain.errors import FailureCode
from chat.domain.events import Event, EventName
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage

WHO = AnswerIds("chat", "message", "question", "session", "model")
USAGE = Usage(3, 4)


def begun() -> Answer:
    answer = Answer(WHO)
    answer.begin()
    return answer


def test_events_count_up_from_one_without_gaps_and_the_last_has_no_number():
    answer = begun()
    answer.append_text("a")
    answer.append_reasoning("because")
    answer.add_sources([Source("t", "https://u")])
    answer.end(Outcome(Status.FAILED, None, FailureCode.AI_TIMEOUT), USAGE)
    assert [event.number for event in answer.events] == [1, 2, 3, 4, 5, 0]
    assert [event.name for event in answer.events] == ["start", "", "reasoning", "sources", "failure", "done"]


def test_start_names_everything_a_client_needs():
    assert json.loads(Answer(WHO).begin().data) == {
        "chatId": "chat",
        "messageId": "message",
        "userMessageId": "question",
        "sessionId": "session",
        "model": "model",
    }


@pytest.mark.parametrize(
    "text", ["plain", "안녕하세요", "👩‍👩‍👧‍👦", "\x00", "a\nb\r\nc", "\u2028\u2029\x85", '"\\', "data: x\n\n"]
)
def test_a_delta_is_one_line_of_json_that_holds_the_text_as_it_came(text: str):
    event = begun().append_text(text)
    assert json.loads(event.data) == {"delta": text}
    assert not set("\r\n\t") & set(event.data)


def test_text_and_characters_are_the_joined_deltas():
    answer = begun()
    for delta in ["안", "녕", "👋", "!"]:
        answer.append_text(delta)
    assert (answer.text, answer.characters) == ("안녕👋!", 4)
    answer.append_text("?")
    assert answer.text == "안녕👋!?"


def test_reasoning_is_kept_apart_from_the_text():
    answer = begun()
    answer.append_reasoning("hm")
    answer.append_text("yes")
    answer.append_reasoning("!")
    assert (answer.text, answer.reasoning, answer.characters) == ("yes", "hm!", 3)


def test_sources_come_once_each_in_the_order_they_were_named():
    answer = begun()
    one, two, three = Source("1", "https://1"), Source("2", "https://2"), Source("3", "https://3")
    first = answer.add_sources([one, two, one])
    assert first is not None
    assert [source["url"] for source in json.loads(first.data)["sources"]] == ["https://1", "https://2"]
    assert answer.add_sources([two]) is None
    assert answer.add_sources([two, three]) is not None
    assert answer.sources == [one, two, three]


def test_done_says_how_it_ended():
    answer = begun()
    answer.append_text("hé")
    (done,) = answer.end(Outcome(Status.COMPLETED, "stop"), USAGE)
    assert json.loads(done.data) == {
        "status": "completed",
        "finishReason": "stop",
        "messageId": "message",
        "usage": {"inputTokens": 3, "outputTokens": 4, "estimated": False},
        "characters": 2,
    }


def test_done_says_when_it_could_not_be_stored():
    (done,) = begun().end(Outcome(Status.COMPLETED, "stop"), USAGE, is_saved=False)
    assert json.loads(done.data)["saved"] is False


@pytest.mark.parametrize("code", FailureCode)
def test_every_failure_has_a_sentence_and_says_whether_to_try_again(code: FailureCode):
    failure, done = begun().end(Outcome(Status.FAILED, None, code), USAGE)
    data = json.loads(failure.data)
    assert data["code"] == code
    assert data["message"].endswith(".")
    assert isinstance(data["retryable"], bool)
    assert done == Event(0, "done", done.data)


STEPS = {
    "begin": lambda answer: answer.begin(),
    "append_text": lambda answer: answer.append_text("x"),
    "append_reasoning": lambda answer: answer.append_reasoning("x"),
    "add_sources": lambda answer: answer.add_sources([Source("t", "https://u")]),
    "end": lambda answer: answer.end(Outcome(Status.COMPLETED, "stop"), USAGE),
}
LEGAL = {"new": {"begin"}, "streaming": {"append_text", "append_reasoning", "add_sources", "end"}, "ended": set()}


def in_state(state: str) -> Answer:
    answer = Answer(WHO)
    if state != "new":
        answer.begin()
    if state == "ended":
        answer.end(Outcome(Status.CANCELLED), USAGE)
    return answer


@pytest.mark.parametrize("state", LEGAL)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_legal_exactly_where_the_table_says_and_otherwise_changes_nothing(state: str, step: str):
    answer = in_state(state)
    before = (list(answer.events), answer.text, answer.reasoning, list(answer.sources), answer.outcome)
    if step in LEGAL[state]:
        STEPS[step](answer)
        assert len(answer.events) > len(before[0])
    else:
        with pytest.raises(IllegalTransition):
            STEPS[step](answer)
        assert (list(answer.events), answer.text, answer.reasoning, list(answer.sources), answer.outcome) == before


def test_events_can_be_read_from_anywhere_and_counted_by_name():
    answer = begun()
    for word in ("a", "b", "c"):
        answer.append_text(word)
    answer.append_reasoning("hm")
    events = answer.events
    assert [event.number for event in events[1:4]] == [2, 3, 4]
    assert events[-1] == events[4] == list(events)[4]
    assert events[5:] == []
    assert (events.count_of(EventName.DELTA), events.count_of("reasoning"), events.count_of("done")) == (3, 1, 0)
    with pytest.raises(IndexError):
        events[5]
