"""The same events in the AI SDK's words."""

import json

from hypothesis import given
from hypothesis import strategies as st

from chat.domain.answer import Answer
from chat.domain.errors import FailureCode
from chat.domain.events import Event
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage
from chat.http.ui_messages import UiMessageEncoder

IDS = AnswerIds("chat", "message", "question", "phone", "model")


def an_answer(*deltas: str, outcome: Outcome | None = None) -> Answer:
    answer = Answer(IDS)
    answer.begin()
    for delta in deltas:
        answer.append_text(delta)
    answer.end(outcome or Outcome(Status.COMPLETED, "stop"), Usage(1, 2))
    return answer


def chunks(data: bytes) -> list[dict | str]:
    """What an SSE parser delivers."""
    found = []
    for block in data.decode().split("\n\n"):
        for line in block.split("\n"):
            if line.startswith("data: "):
                text = line.removeprefix("data: ")
                found.append(text if text == "[DONE]" else json.loads(text))
    return found


def ids(data: bytes) -> list[str]:
    return [line[4:] for line in data.decode().split("\n") if line.startswith("id: ")]


def test_an_answer_is_a_message_with_parts():
    answer = Answer(IDS)
    answer.begin()
    answer.append_reasoning("Hm")
    answer.append_text("안")
    answer.append_text("녕")
    answer.add_sources([Source("A", "https://a/")])
    answer.append_reasoning("more")
    answer.end(Outcome(Status.COMPLETED, "stop"), Usage(1, 2))
    data = UiMessageEncoder("message")(answer.events)
    metadata = {"chatId": "chat", "userMessageId": "question", "sessionId": "phone", "model": "model"}
    usage = {"inputTokens": 1, "outputTokens": 2, "estimated": False}
    assert chunks(data) == [
        {"type": "start", "messageId": "message", "messageMetadata": metadata},
        {"type": "reasoning-start", "id": "reasoning-2"},
        {"type": "reasoning-delta", "id": "reasoning-2", "delta": "Hm"},
        {"type": "reasoning-end", "id": "reasoning-2"},
        {"type": "text-start", "id": "text-3"},
        {"type": "text-delta", "id": "text-3", "delta": "안"},
        {"type": "text-delta", "id": "text-3", "delta": "녕"},
        {"type": "source-url", "sourceId": "source-1", "url": "https://a/", "title": "A"},
        {"type": "text-end", "id": "text-3"},
        {"type": "reasoning-start", "id": "reasoning-6"},
        {"type": "reasoning-delta", "id": "reasoning-6", "delta": "more"},
        {"type": "reasoning-end", "id": "reasoning-6"},
        {
            "type": "finish",
            "messageMetadata": {"status": "completed", "finishReason": "stop", "usage": usage, "characters": 2},
        },
        "[DONE]",
    ]
    assert ids(data) == [*(f"message:{number}" for number in range(1, 7)), "message:done"]


def test_a_failure_is_an_error_in_our_words_with_its_code_before_it():
    answer = an_answer("Hi", outcome=Outcome(Status.FAILED, None, FailureCode.AI_TIMEOUT))
    told = chunks(UiMessageEncoder("message")(answer.events))
    assert [chunk["type"] for chunk in told[-5:-1]] == ["text-end", "message-metadata", "error", "finish"]
    assert told[-4]["messageMetadata"]["failure"]["code"] == "ai_timeout"
    assert told[-3] == {"type": "error", "errorText": "The AI service stopped responding."}


def test_a_cancelled_answer_is_aborted_and_finished():
    told = chunks(UiMessageEncoder("message")(an_answer("Hi", outcome=Outcome(Status.CANCELLED, None)).events))
    assert [chunk["type"] for chunk in told[-4:-1]] == ["text-end", "abort", "finish"]
    assert told[-2]["messageMetadata"]["status"] == "cancelled"


def test_an_event_of_another_name_is_transient_data():
    told = chunks(UiMessageEncoder("message")([Event(3, "title", '{"title":"A"}')]))
    assert told == [{"type": "data-title", "data": {"title": "A"}, "transient": True}]


def test_without_ids_only_the_end_carries_one():
    assert ids(UiMessageEncoder("message")(an_answer("Hi").events, False)) == ["message:done"]


def test_an_id_is_on_the_last_chunk_of_its_event_so_that_none_is_lost_behind_it():
    data = UiMessageEncoder("message")(an_answer("Hi").events[1:2])
    start, delta = data.decode().removesuffix("\n\n").split("\n\n")
    assert "id: " not in start
    assert delta.endswith("\nid: message:2")


TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=5)


@given(TEXTS, TEXTS, st.integers(0, 30), st.integers(0, 30))
def test_an_answer_that_is_told_once_more_is_not_shown_twice(words, thoughts, words_sent, thoughts_sent):
    """A log that was lost is written again from its beginning, in whatever pieces."""
    text, reasoning = "".join(words), "".join(thoughts)
    encode = UiMessageEncoder("message")
    first = Answer(IDS)
    data = encode([first.begin()])
    if thoughts_sent and reasoning:
        data += encode([first.append_reasoning(reasoning[:thoughts_sent])])
    if words_sent and text:
        data += encode([first.append_text(text[:words_sent])])
    again = Answer(IDS)
    again.begin()
    for thought in thoughts:
        again.append_reasoning(thought)
    for word in words:
        again.append_text(word)
    again.end(Outcome(Status.COMPLETED, "stop"), Usage(1, 2))
    data += encode([again.events[0]._replace(number=0), *again.events[1:]])
    told = chunks(data)
    assert "".join(c["delta"] for c in told if c != "[DONE]" and c["type"] == "text-delta") == text
    assert "".join(c["delta"] for c in told if c != "[DONE]" and c["type"] == "reasoning-delta") == reasoning
    opened = [c["id"] for c in told if c != "[DONE]" and c["type"].endswith("-start")]
    closed = [c["id"] for c in told if c != "[DONE]" and c["type"].endswith("-end")]
    assert opened == closed
