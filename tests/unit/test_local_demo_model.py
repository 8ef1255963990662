import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.demo_answer import answer, pieces
from local.demo_model import app

pytestmark = pytest.mark.slow


@given(st.text())
def test_the_pieces_of_an_answer_are_the_answer(text):
    assert "".join(pieces(text)) == text


@given(st.lists(st.text()), st.text())
def test_any_question_has_an_answer_that_says_it_is_a_demo(questions, system_prompt):
    assert "OPENAI_API_KEY" in answer(questions, system_prompt).text


def test_an_answer_is_about_the_question():
    made = answer(["How do rainbows form?"])
    assert "How do rainbows form?" in made.text
    assert "about rainbows" in made.text
    assert "rainbows" in made.source_url
    assert "demo model" in made.text


def test_a_korean_question_has_a_korean_answer():
    made = answer(["무지개는 어떻게 생기나요?"])
    assert "데모 모델" in made.text and "demo" not in made.text
    assert "‘무지개’" in made.text
    assert made.source_url.startswith("https://ko.wikipedia.org/")


def test_an_answer_remembers_what_came_before_and_what_it_was_told():
    made = answer(["I live in Busan", "And now?"], "Be kind.")
    assert "I live in Busan" in made.text
    assert "Be kind." in made.text
    assert "Busan" not in answer(["And now?"]).text


@pytest.mark.parametrize("question", ["Why is the sky blue?", "Think about it", "하늘은 왜 파란가요?"])
def test_a_question_why_makes_it_think(question):
    assert answer([question]).reasoning


def test_other_questions_do_not_make_it_think():
    assert answer(["What is the sky?"]).reasoning == ""


@pytest.mark.parametrize("question", ["Show me every kind of Markdown.", "마크다운을 종류별로 보여 주세요."])
def test_who_asks_for_markdown_gets_all_of_it(question):
    text = answer([question]).text
    for sign in ("**", "~~", "```python", "| `start`", "\n> ", "- [x] ", "\n1. ", "\n---\n", "](https://", "<script>"):
        assert sign in text


def test_who_asks_for_more_gets_more():
    assert len(answer(["Tell me a long story"]).text) > 3 * len(answer(["Tell me about it"]).text)
    assert len(answer(["길게 설명해 주세요"]).text) > 3 * len(answer(["설명해 주세요"]).text)


def client():
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo")


def question(text, **more):
    return {"model": "any", "messages": [{"role": "user", "content": text}], **more}


async def streamed(**more):
    async with client() as demo:
        response = await demo.post("/v1/chat/completions", json=question("Why?", stream=True, **more))
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.strip().split("\n\n")
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_a_stream_has_reasoning_text_a_source_a_finish_reason_and_usage_in_this_order():
    chunks = await streamed(stream_options={"include_usage": True}, max_tokens=3)
    *deltas, finish, usage = chunks
    kinds = [next(reversed(chunk["choices"][0]["delta"])) for chunk in deltas]
    thoughts = kinds.count("reasoning_content")
    assert kinds == ["content", *["reasoning_content"] * thoughts, *["content"] * 3, "annotations"]
    assert thoughts > 3
    citation = deltas[-1]["choices"][0]["delta"]["annotations"][0]
    assert citation["type"] == "url_citation" and citation["url_citation"]["url"].startswith("https://")
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3


async def test_usage_is_sent_only_to_those_who_ask():
    assert all("usage" not in chunk for chunk in await streamed(max_tokens=1))


async def test_a_stream_takes_its_time():
    begun = time.monotonic()
    chunks = await streamed(max_tokens=3)
    assert time.monotonic() - begun > (len(chunks) - 2) / 31


async def test_an_answer_can_be_had_in_one_piece():
    async with client() as demo:
        whole = (await demo.post("/v1/chat/completions", json=question("What is rain?"))).json()
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["choices"][0]["message"]["content"] == answer(["What is rain?"]).text


async def test_a_message_may_come_in_parts():
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "rain?"}]
    async with client() as demo:
        whole = (await demo.post("/v1/chat/completions", json=question(parts))).json()
    assert "What is rain?" in whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"messages": 1}', b'{"messages": [1]}', b'{"messages": [], "max_tokens": {}}']
)
async def test_what_is_no_request_is_refused(body):
    async with client() as demo:
        response = await demo.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
