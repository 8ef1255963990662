"""The short cut for chunks that are alike: it must never say anything else than the decoder would."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.adapters.llm.delta_fast_path import MAX_CANDIDATES, DeltaFastPath, decode
from chat.adapters.llm.sse_decoder import SseDecoder
from chat.application.ports import StreamPart, TextDelta


def chunk(content: str, padding: str | None = None, **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None}
    padding = {} if padding is None else {"obfuscation": padding}
    return {"id": "c-1", "choices": [choice], "usage": None, **members, **padding}


def encoded(value: dict[str, Any], compact: bool = True) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else None).encode()


def taught(value: dict[str, Any], compact: bool = True) -> DeltaFastPath:
    fast_path = DeltaFastPath()
    data = encoded(value, compact)
    fast_path.learn(data, decode(data))
    return fast_path


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("paddings", [(None, None), ("abc", "defghi")])
@pytest.mark.parametrize("text", ["word", " 안녕 👋", "a'b{}[]:,", "x\x00\t", ""])
def test_a_chunk_that_differs_only_in_its_text_needs_no_decoder(
    compact: bool, paddings: tuple[str | None, str | None], text: str
):
    fast_path = taught(chunk("Hello", paddings[0]), compact)
    data = encoded(chunk(text, paddings[1]), compact).replace(b"\\u0000", b"\0").replace(b"\\t", b"\t")
    assert fast_path.text_in(data) == text


@pytest.mark.parametrize(
    "data",
    [
        encoded(chunk('a "quoted" word')),
        encoded(chunk("a line\n")),
        encoded(chunk("word", id="c-2")),
        encoded(chunk("word", usage={"prompt_tokens": 1})),
        encoded(chunk("word", "padding")),
        encoded(chunk("word")) + b" ",
        encoded(chunk("word"))[:-1],
        encoded(chunk("word")).replace(b"word", b"word\xff"),
        encoded(chunk("word")).replace(b'word"', b""),
        encoded(chunk("word")).replace(b"word", b'word","content":"other'),
        encoded(chunk("word")).replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        b"",
        b"[DONE]",
    ],
)
def test_any_other_chunk_has_to_be_decoded(data: bytes):
    assert taught(chunk("Hello")).text_in(data) is None


@pytest.mark.parametrize(
    "data",
    [
        encoded(chunk("word", "no\\ise")),
        encoded(chunk("word", 'no"ise')),
        encoded(chunk("word")),
        encoded(chunk("word", "padding")).replace(b'padding"', b""),
        encoded(chunk("word", "padding")).replace(b'padding"', b'padding","error":"x"'),
        encoded(chunk("word", "padding")).replace(b'"usage":null', b'"usage":{}'),
    ],
)
def test_any_other_chunk_with_padding_has_to_be_decoded_too(data: bytes):
    assert taught(chunk("Hello", "padding")).text_in(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"x":{"content":"Hello"},"choices":[{"delta":{"content":"Hello"}}]}',
        b'{"choices":[{"delta":{"content":"one","content":"Hello"}}]}',
        b'{"choices":[{"delta":{"content":"Hello"}}],"choices":[{"delta":{"content":"Hello"}}]}',
    ],
)
def test_what_is_no_proven_hole_is_no_template(data: bytes):
    fast_path = DeltaFastPath()
    fast_path.learn(data, decode(data))
    assert fast_path.text_in(data) is None


def test_noise_somewhere_else_is_no_hole():
    data = b'{"choices":[{"delta":{"content":"Hello"}}],"x":{"obfuscation":"abc"},"obfuscation":"abc"}'
    fast_path = DeltaFastPath()
    fast_path.learn(data, decode(data))
    assert fast_path.text_in(data.replace(b'"x":{"obfuscation":"abc"}', b'"x":{"obfuscation":"abd"}')) is None


def test_it_gives_up_where_nothing_lasts():
    fast_path = DeltaFastPath()
    for number in range(MAX_CANDIDATES):
        data = encoded(chunk("Hello", id=f"c-{number}"))
        assert fast_path.wants(data)
        fast_path.learn(data, decode(data))
    assert not fast_path.wants(encoded(chunk("Hello")))


def each_apart(events: list[bytes]) -> list[StreamPart]:
    """What parsers say that have never seen a chunk before."""
    return [piece for event in events for piece in SseDecoder(think_tags=False).feed(event)]


def in_one(events: list[bytes]) -> list[StreamPart]:
    parser = SseDecoder(think_tags=False)
    return [piece for event in events for piece in parser.feed(event)]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["a", '"', "\\", "a\\n", '","content":"'])
MEMBERS = st.sampled_from([{}, {}, {}, {"id": "c-2"}, {"usage": {}}, {"x": {"content": "y"}}, {"x": '"content":"'}])
PADDINGS = st.none() | st.none() | st.text('ab\\"', max_size=3)
EDITS = st.none() | st.none() | st.none() | st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=2))


@given(st.lists(st.tuples(TEXTS, PADDINGS, MEMBERS, EDITS), max_size=12))
def test_a_parser_that_has_learnt_says_what_one_says_that_has_not(cases: list[tuple[Any, ...]]):
    events = []
    for text, padding, members, edit in cases:
        data = encoded(chunk(text, padding, **members))
        if edit is not None:
            at, length, other = edit
            data = data[:at] + other + data[at + length :]
        events.append(b"data: " + data.replace(b"\n", b"").replace(b"\r", b"") + b"\n\n")
    assert in_one(events) == each_apart(events)


@given(st.lists(TEXTS, min_size=1, max_size=20), st.booleans())
def test_text_of_chunks_that_are_alike_arrives_unchanged(texts: list[str], is_padded: bool):
    events = [
        b"data: " + encoded(chunk(text, "x" * number if is_padded else None)) + b"\n\n"
        for number, text in enumerate(texts)
    ]
    assert in_one(events) == [TextDelta(text) for text in texts if text]
