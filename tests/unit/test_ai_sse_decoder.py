"""What OpenAI-compatible services really send, each case cut at every byte."""

import json
import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.adapters.llm import sse_decoder
from chat.adapters.llm.chunks import MAX_SOURCES
from chat.adapters.llm.sse_decoder import MAX_EVENT_BYTES, SseDecoder
from chat.application.ports import Finish, ReasoningDelta, SourcesAdded, StreamPart, TextDelta
from chat.domain.errors import FailureCode
from chat.domain.model import Source, Usage

Outcome = tuple[list[StreamPart], FailureCode | None]

STOP = Finish("stop")
END = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def delta(**members: object) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": members}]}) + "\n\n"


def say(text: str) -> str:
    return delta(content=text)


def event(**members: object) -> str:
    return "data: " + json.dumps(members, ensure_ascii=False) + "\n\n"


def last(reason: object) -> str:
    return event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])


def cited(*pairs: tuple[object, object]) -> str:
    return delta(annotations=[{"type": "url_citation", "url_citation": {"url": u, "title": t}} for u, t in pairs])


def used(input_tokens: object, output_tokens: object) -> dict[str, object]:
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}


def whole(message: object, reason: object = "stop", **members: object) -> str:
    choices = [{"index": 0, "message": message, "finish_reason": reason}]
    return json.dumps({"object": "chat.completion", "choices": choices, **members}, indent=2)


def a_source(url: str, title: str | None = None) -> SourcesAdded:
    return SourcesAdded((Source(title or url, url),))


INCOMPLETE, INVALID, ERROR = FailureCode.AI_INCOMPLETE, FailureCode.AI_INVALID, FailureCode.AI_ERROR
HI = [TextDelta("Hi"), STOP]

CASES: dict[str, tuple[str | bytes, list[StreamPart], FailureCode | None]] = {
    # line ends
    "LF": (say("Hi") + END, HI, None),
    "CRLF": ((say("Hi") + END).replace("\n", "\r\n"), HI, None),
    "CR": ((say("Hi") + END).replace("\n", "\r"), HI, None),
    "mixed line ends": ('data: {"choices":\r\ndata:[{"delta":\rdata: {"content":"Hi"}}]}\n\r\n' + END, HI, None),
    "U+2028, U+2029 and U+0085 are no line ends": (
        event(choices=[{"delta": {"content": "a\u2028b\u2029c\x85d"}}]) + END,
        [TextDelta("a\u2028b\u2029c\x85d"), STOP],
        None,
    ),
    "form feed and vertical tab are no line ends": (say("a\x0bb\x0cc") + END, [TextDelta("a\x0bb\x0cc"), STOP], None),
    # framing
    "byte order mark": (b"\xef\xbb\xbf" + (say("Hi") + END).encode(), HI, None),
    "byte order mark before JSON": (b"\xef\xbb\xbf" + whole({"content": "Hi"}).encode(), HI, None),
    "last event without a blank line": (say("Hi") + END.rstrip("\n"), HI, None),
    "last event is the finish, without a line end": (say("Hi") + last("stop").rstrip("\n"), HI, None),
    "comments": (": OPENROUTER PROCESSING\n\n:\n" + say("Hi") + ": x\n\n" + END, HI, None),
    "other fields": ("event: message\nid: 7\nretry: 10\n" + say("Hi") + "id\n\n" + END, HI, None),
    "multi-line data": ('data: {"choices":[{"delta":\ndata: {"content":"Hi"}}]}\n\n' + END, HI, None),
    "no space after the colon": ((say("Hi") + END).replace("data: ", "data:"), HI, None),
    "two spaces after the colon": ((say("Hi") + END).replace("data: ", "data:  "), HI, None),
    "an empty data line": ("data\n\ndata:\n\n" + say("Hi") + END, HI, None),
    "blank lines as keep-alives": ("\n\n\n" + say("Hi") + "\n\n\n" + END, HI, None),
    "nothing counts after [DONE]": (say("Hi") + END + say("more"), HI, None),
    # the end
    "[DONE] without a finish reason": (say("Hi") + "data: [DONE]\n\n", [TextDelta("Hi")], INCOMPLETE),
    "[DONE] and nothing else": ("data: [DONE]\n\n", [], INCOMPLETE),
    "finish reason without [DONE]": (say("Hi") + last("length"), [TextDelta("Hi"), Finish("length")], None),
    "usage after the finish reason": (
        last("stop") + event(choices=[], usage=used(3, 4)) + "data: [DONE]\n\n",
        [STOP, Usage(3, 4)],
        None,
    ),
    "text after the finish reason": (last("stop") + say("Hi"), [STOP, TextDelta("Hi")], None),
    "the finish reason twice": (say("Hi") + last("stop") + last("stop"), HI, None),
    "a reason that nobody knows": (say("Hi") + last("r" * 65), HI, None),
    "reasons of other services": (
        last("max_tokens") + last("SAFETY") + last("end_turn"),
        [Finish("length"), Finish("content_filter"), STOP],
        None,
    ),
    "words that stand for no reason": (
        last("null") + last("None") + last(" ") + say("Hi") + last("stop") + last("null"), HI, None),
    "a reason that means that it broke off": (
        say("Hi") + last("insufficient_system_resource") + "data: [DONE]\n\n", [TextDelta("Hi")], INCOMPLETE),
    "broken off, and whole after all": (say("Hi") + last("abort") + last("stop"), HI, None),
    "whole, and broken off after all": (say("Hi") + last("stop") + last("cancelled"), HI, INCOMPLETE),
    "a call of a tool": (
        delta(content=None, tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}])
        + last("tool_calls"),
        [STOP],
        INVALID,
    ),
    "a call of a function, by its reason alone": (last("function_call"), [STOP], INVALID),
    "a call of a tool beside text": (
        say("Hi") + delta(tool_calls=[{"function": {"name": "f"}}]) + last("tool_calls"), HI, None),
    "a stop with nothing said": (last("stop"), [STOP], None),
    "neither": (say("Hi"), [TextDelta("Hi")], INCOMPLETE),
    "nothing at all": ("", [], INCOMPLETE),
    "only comments": (": hello\n\n", [], INCOMPLETE),
    "cut in the middle of an event": (say("Hi") + say("there")[:-20], [TextDelta("Hi")], INCOMPLETE),
    "cut in the middle of the first event": (say("Hi")[:-20], [], INCOMPLETE),
    'finish reason "" and null': (last("") + say("Hi") + last(None), [TextDelta("Hi")], INCOMPLETE),
    "finish reason of a strange type": (say("Hi") + last(7) + last(["stop"]), [TextDelta("Hi")], INCOMPLETE),
    # errors under 200
    "error instead of chunks": (event(error={"message": "SECRET", "code": 502}), [], ERROR),
    "error with a code in words": (event(error={"message": "SECRET", "code": "overloaded"}), [], ERROR),
    "error as a string": (event(error="SECRET"), [], ERROR),
    "error after text": (say("Hi") + event(error={"message": "SECRET"}) + say("no") + END, [TextDelta("Hi")], ERROR),
    "error beside an ending choice": (
        event(error={"code": 502}, choices=[{"delta": {"content": "Hi"}, "finish_reason": "error"}]),
        [TextDelta("Hi")],
        ERROR,
    ),
    "finish reason error": (say("Hi") + last("error"), [TextDelta("Hi")], ERROR),
    "error as a whole document": (json.dumps({"error": {"message": "SECRET"}}), [], ERROR),
    "object error": (event(object="error", message="SECRET", code=400), [], ERROR),
    "error null": (event(error=None, choices=[{"delta": {"content": "Hi"}}]) + END, HI, None),
    # chunks
    "choices empty or missing": (
        event(choices=[], prompt_filter_results=[{}]) + event(id="x") + event(choices=None) + say("Hi") + END,
        HI,
        None,
    ),
    "delta missing, empty or null": (
        event(choices=[{"index": 0}]) + event(choices=[{"delta": {}}]) + event(choices=[{"delta": None}]) + END,
        [STOP],
        None,
    ),
    "content null, missing or empty": (delta(content=None) + delta(role="assistant") + say("") + END, [STOP], None),
    "content on the finishing chunk": (
        event(choices=[{"delta": {"content": "Hi"}, "finish_reason": "stop"}]),
        HI,
        None,
    ),
    "role repeated": (delta(role="assistant", content="H") + delta(role="assistant", content="i") + END,
        [TextDelta("H"), TextDelta("i"), STOP], None),
    "unknown keys": (
        event(object="other", x={"y": [1]}, choices=[{"index": 0, "z": 1, "delta": {"content": "Hi", "tool": 1}}])
        + END,
        HI,
        None,
    ),
    "several choices in a chunk": (
        event(choices=[{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "Hi"}}]) + END,
        HI,
        None,
    ),
    "several choices in turn": (
        say("Hi") + event(choices=[{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]) + END,
        HI,
        None,
    ),
    "members of strange types": (
        event(choices={"0": 1}) + event(choices=[None, 3, "x"]) + event(choices=[{"delta": ["x"]}])
        + delta(content=True, reasoning=7, annotations="x") + event(citations=7, search_results={}, usage=[1])
        + say("Hi") + END,
        HI,
        None,
    ),
    # usage
    "usage on the finishing chunk": (
        event(choices=[{"delta": {}, "finish_reason": "stop"}], usage=used(3, 4)),
        [STOP, Usage(3, 4)],
        None,
    ),
    "usage repeated, null and growing": (
        event(choices=[], usage=None) + event(usage=used(3, 0)) * 2 + event(usage=used(3, 4)) + END,
        [Usage(3, 0), Usage(3, 4), STOP],
        None,
    ),
    "usage that is none": (
        event(usage=used(3, None)) + event(usage=used(-1, 2)) + event(usage=used(True, 2)) + event(usage=used(1e99, 2))
        + event(usage=used(10**30, 2)) + event(usage={}) + END,
        [STOP],
        None,
    ),
    "usage in a vendor's member": (
        event(choices=[{"delta": {}, "finish_reason": "stop"}], x_groq={"id": "r", "usage": used(5, 2)}),
        [STOP, Usage(5, 2)],
        None,
    ),
    "usage with details": (
        event(choices=[], usage=used(5, 2) | {
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1}}) + END,
        [Usage(5, 2, cached_tokens=4, reasoning_tokens=1), STOP], None),
    "usage with DeepSeek's details": (
        event(choices=[], usage=used(5, 2) | {"prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 2}) + END,
        [Usage(5, 2, cached_tokens=3), STOP], None),
    "usage with details of the Responses API": (
        event(choices=[], usage={"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0},
                                 "output_tokens_details": {"reasoning_tokens": 2}}) + END,
        [Usage(5, 2, cached_tokens=0, reasoning_tokens=2), STOP], None),
    "usage with Anthropic's details": (
        event(choices=[], usage=used(5, 2) | {"cache_read_input_tokens": 3}) + END,
        [Usage(5, 2, cached_tokens=3), STOP], None),
    "usage with details that are none": (
        event(choices=[], usage=used(5, 2) | {
            "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": "many"}}) + END,
        [Usage(5, 2), STOP], None),
    "usage in the choice": (event(choices=[{"delta": {}, "usage": used(5, 2)}]) + END, [Usage(5, 2), STOP], None),
    "usage under other names": (
        event(usage={"input_tokens": 5, "output_tokens": 2}) + END, [Usage(5, 2), STOP], None),
    "usage that is none beside usage": (
        event(choices=[], usage=used(None, "2"), x_groq={"usage": used(5, 2)}) + END, [Usage(5, 2), STOP], None),
    # reasoning
    "reasoning_content": (delta(reasoning_content="Hm") + say("Hi") + END, [ReasoningDelta("Hm"), *HI], None),
    "reasoning": (delta(reasoning="Hm", content="") + say("Hi") + END, [ReasoningDelta("Hm"), *HI], None),
    "reasoning under both names": (
        delta(reasoning="Hm", reasoning_content="Hm") + END, [ReasoningDelta("Hm"), STOP], None),
    "reasoning_details": (
        delta(content="", reasoning_details=[{"type": "reasoning.text", "text": "H", "index": 0}])
        + delta(reasoning_details=[{"type": "reasoning.summary", "summary": "m"}, {"type": "reasoning.encrypted"}])
        + say("Hi") + END,
        [ReasoningDelta("H"), ReasoningDelta("m"), *HI],
        None,
    ),
    "reasoning under all names": (
        delta(reasoning="Hm", reasoning_content="Hm", reasoning_details=[{"text": "Hm"}]) + say("Hi") + END,
        [ReasoningDelta("Hm"), *HI],
        None,
    ),
    "reasoning as an object": (delta(reasoning={"content": "Hm"}) + say("Hi") + END, [ReasoningDelta("Hm"), *HI], None),
    # tags around reasoning
    "think tags": (
        say("<think>Hm</think>Yes <think>no</think>") + END,
        [ReasoningDelta("Hm"), TextDelta("Yes <think>no</think>"), STOP],
        None,
    ),
    "think tags in deltas": (
        say("<thi") + say("nk>\nHm") + say("\n</think>\n\nYes") + END,
        [ReasoningDelta("Hm"), TextDelta("Yes"), STOP],
        None,
    ),
    "think tags one character at a time": (
        "".join(map(say, "\n<thinking> a b </thinking> c")) + END,
        [ReasoningDelta("a"), ReasoningDelta(" b"), TextDelta("c"), STOP],
        None,
    ),
    "an empty thought": (say("<think>\n\n</think>\n\nHi") + END, HI, None),
    "a thought without an end": (
        say("<think>Hm </thi") + END, [ReasoningDelta("Hm"), ReasoningDelta(" </thi"), STOP], None),
    "text that begins like a tag": (say("<thi") + say("s>") + END, [TextDelta("<this>"), STOP], None),
    "text that is the beginning of a tag": (say(" <th") + END, [TextDelta(" <th"), STOP], None),
    "a tag that is not at the beginning": (
        say("a <think>b</think>") + END, [TextDelta("a <think>b</think>"), STOP], None),
    # text in other shapes
    "the older Completions": (
        event(object="text_completion", choices=[{"index": 0, "text": "H"}])
        + event(choices=[{"index": 0, "text": "i", "finish_reason": "stop"}]),
        [TextDelta("H"), TextDelta("i"), STOP],
        None,
    ),
    "the message so far in each chunk": (
        event(choices=[{"index": 0, "message": {"role": "assistant", "content": "H"}, "finish_reason": None}])
        + event(choices=[{"index": 0, "message": {"content": "H"}}])
        + event(choices=[{"index": 0, "message": {"content": "Hi", "reasoning": "Hm"}, "finish_reason": "stop"}]),
        [TextDelta("H"), ReasoningDelta("Hm"), TextDelta("i"), STOP],
        None,
    ),
    "a message in pieces": (
        event(choices=[{"message": {"content": "H"}}]) + event(choices=[{"message": {"content": "i"}}]) + END,
        [TextDelta("H"), TextDelta("i"), STOP],
        None,
    ),
    "the whole message beside the last delta": (
        say("Hi") + event(choices=[{"delta": {}, "message": {"content": "Hi"}, "finish_reason": "stop"}]), HI, None),
    "a delta that is a string": (event(choices=[{"delta": "Hi"}]) + END, HI, None),
    "a content that is a number": (delta(content=42) + delta(content=0) + END,
        [TextDelta("42"), TextDelta("0"), STOP], None),
    "a content that is an object": (delta(content={"type": "text", "text": {"value": "Hi"}}) + END, HI, None),
    "a content that is a list of strings": (delta(content=["H", "i"]) + END,
        [TextDelta("H"), TextDelta("i"), STOP], None),
    "a number that is too long": (
        'data: {"created": ' + "9" * 5000 + ', "choices": [{"delta": {"content": "Hi"}}]}\n\n' + END, HI, None),
    "text in parts": (
        delta(content=[{"type": "text", "text": "H"}, None, {"type": "text", "text": ""}, {"text": "i"}])
        + delta(content=[{"type": "image_url", "image_url": {"url": "https://a/"}}]) + END,
        [TextDelta("H"), TextDelta("i"), STOP],
        None,
    ),
    "reasoning in parts": (
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "H"}, 7, {"text": 7}]}])
        + delta(content=[{"type": "thinking", "thinking": "m"}, {"type": "text", "text": "Hi"}]) + END,
        [ReasoningDelta("H"), ReasoningDelta("m"), *HI],
        None,
    ),
    "a refusal": (say("") + delta(content=None, refusal="I ") + delta(refusal="can't.") + END,
        [TextDelta("I "), TextDelta("can't."), STOP], None),
    "a refusal after many chunks of text": (
        "".join(event(choices=[{"index": 0, "delta": {"content": "x", "refusal": None}}]) for _ in range(4))
        + event(choices=[{"index": 0, "delta": {"content": "x", "refusal": "No."}}]) + END,
        [TextDelta("x"), TextDelta("x"), TextDelta("x"), TextDelta("x"), TextDelta("x"), TextDelta("No."), STOP],
        None,
    ),
    "reasoning beside text": (delta(reasoning="Hm", content="Hi") + END, [ReasoningDelta("Hm"), *HI], None),
    # sources
    "annotations that are flat": (
        delta(annotations=[{"type": "url_citation", "url": "https://a/", "title": "A"}]) + END,
        [a_source("https://a/", "A"), STOP],
        None,
    ),
    "annotations": (cited(("https://a/", "A")) + END, [a_source("https://a/", "A"), STOP], None),
    "annotations repeated": (
        cited(("https://a/", "A")) + cited(("https://a/", "A"), ("https://b/", None)) + END,
        [a_source("https://a/", "A"), a_source("https://b/"), STOP],
        None,
    ),
    "citations in each chunk": (
        event(citations=["https://a/", "https://a/"], choices=[{"delta": {"content": "Hi"}}])
        + event(citations=["https://a/"], choices=[{"delta": {}, "finish_reason": "stop"}]),
        [TextDelta("Hi"), a_source("https://a/"), STOP],
        None,
    ),
    "search results name what citations do not": (
        event(citations=["https://a/"], search_results=[{"title": "A", "url": "https://a/", "date": "x"}]) + END,
        [a_source("https://a/", "A"), STOP],
        None,
    ),
    "titles blank, missing or strange": (
        cited(("https://a/", " ")) + cited(("https://b/", 1)) + event(search_results=[{"url": "https://c/"}]) + END,
        [a_source("https://a/"), a_source("https://b/"), a_source("https://c/"), STOP],
        None,
    ),
    "addresses that lead nowhere": (
        event(citations=["javascript:alert(1)", "ftp://a/", "https://", "https://a b", "//a", 7, None, {}, "a"])
        + cited(("data:text/html,x", "A"), (None, "B"), ("https://\ud800", "C"))
        + delta(annotations=[None, {"url_citation": None}, 7])
        + event(citations=["https://" + "a" * 2048, "https://a\x00"]) + END,
        [STOP],
        None,
    ),
    "HTTP in capitals is an address": (event(citations=["HTTP://A/"]) + END, [a_source("HTTP://A/"), STOP], None),
    # what cannot be decoded
    "an undecodable line": ("data: {nonsense\n\n" + say("Hi") + END, HI, None),
    "JSON that is no object": ('data: 7\n\ndata: "x"\n\ndata: null\n\ndata: []\n\n' + say("Hi") + END, HI, None),
    "JSON with something behind it": ("data: {} {}\n\n" + say("Hi") + END, HI, None),
    "JSON too deep": ("data: " + "[" * 3000 + "\n\n" + say("Hi") + END, HI, None),
    "bytes that are no UTF-8": (b"data: \xff\xfe\n\n" + (say("Hi") + END).encode(), HI, None),
    "a line of another protocol": ("HELLO 1\n" + say("Hi") + END, HI, None),
    "nothing but nonsense": ("data: {nonsense\n\ndata: [DONE]\n\n", [], INVALID),
    "nothing but nonsense, without a line end": ("nonsense", [], INVALID),
    "HTML": ("<!doctype html>\n<title>SECRET</title>\n<p>Log in: <a href='/'>here</a>", [], INVALID),
    "HTML on one line": ("<html>SECRET</html>", [], INVALID),
    "another JSON document": (json.dumps({"detail": "SECRET"}), [], INVALID),
    "JSON events that are no chunks": (event(detail="SECRET"), [], INVALID),
    "JSON that is cut": (whole({"content": "Hi"})[:-5], [], INVALID),
    # characters
    "a surrogate pair over two chunks": (
        say("a\ud83d") + say("\ude00b") + END, [TextDelta("a"), TextDelta("😀b"), STOP], None),
    "a surrogate pair over three chunks": (
        say("\ud83d") + say("") + say("\ude00") + END, [TextDelta("😀"), STOP], None),
    "a pair as two escapes": ('data: {"choices":[{"delta":{"content":"\\ud83d\\ude00"}}]}\n\n' + END,
        [TextDelta("😀"), STOP], None),
    "pairs of text and reasoning interleaved": (
        delta(reasoning="\ud83d") + say("\ud83c") + delta(reasoning="\ude00") + say("\udf00") + END,
        [ReasoningDelta("😀"), TextDelta("🌀"), STOP],
        None,
    ),
    "a lone first half": (say("a\ud83d") + say("b") + END, [TextDelta("a"), TextDelta("\ufffdb"), STOP], None),
    "a lone first half at the end": (say("a\ud83d") + END, [TextDelta("a"), TextDelta("\ufffd"), STOP], None),
    "a lone first half where the answer is cut": (
        delta(reasoning="\ud83d") + say("\ud83d"),
        [ReasoningDelta("\ufffd"), TextDelta("\ufffd")],
        INCOMPLETE,
    ),
    "a lone second half": (say("\ude00a") + END, [TextDelta("\ufffda"), STOP], None),
    "two first halves": (say("\ud83d") + say("\ud83d\ude00") + END, [TextDelta("\ufffd😀"), STOP], None),
    "surrogates as bytes": (b'data: {"choices":[{"delta":{"content":"\xed\xa0\xbd\xed\xb8\x80"}}]}\n\n' + END.encode(),
        [TextDelta("😀"), STOP], None),
    "NUL and U+FFFD are kept": (say("a\x00b\ufffd") + END, [TextDelta("a\x00b\ufffd"), STOP], None),
    "control characters that should have been escaped": (
        'data: {"choices":[{"delta":{"content":"a\x00b\tc"}}]}\n\n' + END,
        [TextDelta("a\x00b\tc"), STOP],
        None,
    ),
    "Hangul and emoji as they are": (
        event(choices=[{"delta": {"content": "안녕 👩‍👩‍👧‍👦"}}]) + END,
        [TextDelta("안녕 👩‍👩‍👧‍👦"), STOP],
        None,
    ),
    "text that looks like the protocol": (say("\n\ndata: x\n\n") + END, [TextDelta("\n\ndata: x\n\n"), STOP], None),
    # a whole JSON answer
    "a whole answer": (
        "\n " + whole({"role": "assistant", "content": "Hi\nthere"}, usage=used(3, 4)),
        [TextDelta("Hi\nthere"), STOP, Usage(3, 4)],
        None,
    ),
    "a whole answer with everything": (
        whole(
            {"content": "Hi", "reasoning": "Hm", "annotations": [{"url_citation": {"url": "https://a/"}}]},
            citations=["https://b/"],
        ),
        [ReasoningDelta("Hm"), TextDelta("Hi"), a_source("https://a/"), a_source("https://b/"), STOP],
        None,
    ),
    "a whole answer in parts": (
        whole({"content": [{"type": "text", "text": "Hi"}, {"type": "refusal", "refusal": "!"}]}),
        [TextDelta("Hi"), TextDelta("!"), STOP],
        None,
    ),
    "a whole answer without a finish reason": (whole({"content": "Hi"}, None), [TextDelta("Hi")], INCOMPLETE),
}  # fmt: skip


DROPPED: dict[str, tuple[str, int]] = {
    "nothing": (delta(role="assistant") + say("Hi") + END, 0),
    "a line that is no JSON": ("data: {nonsense\n\n" + say("Hi") + END, 1),
    "choices beyond the first": (
        event(choices=[{"index": 0, "delta": {"content": "Hi"}}, {"index": 1, "delta": {"content": "no"}}])
        + event(choices=[{"index": 1, "delta": {"content": "no"}}])
        + event(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}]) + END,
        2,
    ),
    "text in another protocol": (
        event(type="response.output_text.delta", delta="no") + event(message={"content": "no"}) + say("Hi") + END, 2),
    "calls of tools": (say("Hi") + delta(tool_calls=[{"function": {"arguments": "{"}}]) * 3 + END, 3),
    "sound": (say("Hi") + delta(audio={"transcript": "no"}) + END, 1),
    "a part that is no text": (delta(content=[{"type": "image_url", "image_url": {"url": "x"}}]) + END, 1),
    "a content without an obvious form": (delta(content=True) + END, 1),
    "chunks for machines": (
        event(choices=[], prompt_filter_results=[{"content_filter_results": {"hate": {"severity": "safe"}}}])
        + event(id="x", object="chat.completion.chunk") + event(choices=[], usage=used(1, 1))
        + event(search_results=[{"title": "A", "url": "https://a/", "content": "x"}]) + say("Hi") + END,
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_neither_understood_nor_passed_on_is_counted(name: str):
    body, count = DROPPED[name]
    decoder = SseDecoder()
    decoder.feed(body.encode())
    decoder.finish()
    assert decoder.dropped == count


def test_tags_are_text_where_they_are_not_looked_for():
    decoder = SseDecoder(think_tags=False)
    assert decoder.feed(say("<think>Hm</think>Yes").encode()) == [TextDelta("<think>Hm</think>Yes")]


def test_comments_are_counted_as_signs_of_life():
    decoder = SseDecoder()
    decoder.feed(b": a\n\n" + say("Hi").encode() + b":\n\n")
    assert decoder.keep_alives == 2


FLOODS = {
    "data lines without an end": b"data:\n",
    "comments": b":\n",
    "empty lines": b"\n",
    "event names": b"event\n",
    "lines of another protocol": b"x\n",
    "events without a choice": b"data:{}\n\n",
    "calls of tools": delta(tool_calls=[{"function": {"arguments": "x"}}]).encode(),
    "other choices": event(choices=[{"index": 1, "delta": {"content": "x"}}]).encode(),
    "deep JSON": b"data: " + b"[" * 990 + b"]" * 990 + b"\n\n",
    "deep chunks": b'data: {"choices":[{"delta":{"content":' + b"[" * 900 + b"]" * 900 + b"}}]}\n\n",
    "a line that does not end": b"x",
    "a document that does not end": b"{",
    "white space before anything": b" ",
    "annotations that were there": cited(("https://a/", "A")).encode(),
}


@pytest.mark.parametrize("name", FLOODS)
def test_what_adds_nothing_is_not_read_for_ever(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse_decoder, "MAX_BARREN_BYTES", 1 << 20)
    decoder, part = SseDecoder(), FLOODS[name] * (65_536 // len(FLOODS[name]))
    fed = 0
    while not decoder.is_done and fed <= MAX_EVENT_BYTES + len(part):
        decoder.feed(part)
        fed += len(part)
    assert decoder.failure is not None
    assert decoder.failure.code is INVALID


def test_sources_beyond_some_hundreds_are_left_out():
    decoder = SseDecoder()
    parts = [part for at in range(2 * MAX_SOURCES) for part in decoder.feed(cited((f"https://a/{at}", "A")).encode())]
    assert len(parts) == MAX_SOURCES


def parse(*parts: bytes) -> Outcome:
    decoder = SseDecoder()
    pieces = [piece for part in parts for piece in decoder.feed(part)] + decoder.finish()
    return pieces, decoder.failure.code if decoder.failure else None


def cut(data: bytes, *places: int) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *places, len(data)])]


def encoded(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


@pytest.mark.parametrize("name", CASES)
def test_what_services_send_is_understood_wherever_it_is_cut(name: str):
    body, pieces, failure = CASES[name]
    data = encoded(body)
    assert parse(data) == (pieces, failure)
    for place in range(len(data) + 1):
        assert parse(*cut(data, place)) == (pieces, failure), f"cut at {place}"
    assert parse(*(data[at : at + 1] for at in range(len(data)))) == (pieces, failure)


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 2000), max_size=8))
def test_what_services_send_is_understood_however_often_it_is_cut(name: str, places: list[int]):
    body, pieces, failure = CASES[name]
    data = encoded(body)
    assert parse(*cut(data, *sorted(place % (len(data) + 1) for place in places))) == (pieces, failure)


UNITS = st.lists(
    st.one_of(st.integers(0, 0x7F), st.integers(0xD7F0, 0xE010), st.sampled_from([0xD83D, 0xDE00, 0xAC00, 0xFFFD, 0]))
)


@given(st.lists(st.tuples(st.booleans(), UNITS)))
def test_deltas_cut_between_any_two_code_units_join_to_the_text(deltas: list[tuple[bool, list[int]]]):
    sent: dict[bool, list[int]] = {True: [], False: []}
    body = ""
    for is_text, units in deltas:
        sent[is_text] += units
        escaped = "".join(f"\\u{unit:04x}" for unit in units)
        member = "content" if is_text else "reasoning"
        body += f'data: {{"choices":[{{"delta":{{"{member}":"{escaped}"}}}}]}}\n\n'
    pieces, failure = parse((body + END).encode())
    joined = {
        True: "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)),
        False: "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta)),
    }
    for kind, units in sent.items():
        wire = b"".join(unit.to_bytes(2, "little") for unit in units)
        assert joined[kind] == wire.decode("utf-16-le", "replace")
    assert failure is None
    assert all(piece.text for piece in pieces if isinstance(piece, TextDelta | ReasoningDelta))
    assert all(piece.text.encode() for piece in pieces if isinstance(piece, TextDelta | ReasoningDelta))


@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_no_bytes_make_it_raise(parts: list[bytes], is_stream: bool):
    decoder = SseDecoder()
    for part in [b"data: " if is_stream else b"", *parts]:
        decoder.feed(part)
    decoder.finish()
    assert decoder.failure is not None


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_an_event_is_delivered_with_the_first_byte_that_completes_it(line_end: str):
    data = say("Hi").replace("\n", line_end).encode()
    decoder = SseDecoder()
    received = [decoder.feed(data[at : at + 1]) for at in range(len(data))]
    completing = len(data) - (2 if line_end == "\r\n" else 1)
    assert [at for at, pieces in enumerate(received) if pieces] == [completing]
    assert decoder.feed(say("you").replace("\n", line_end).encode()) == [TextDelta("you")]


def test_a_first_half_is_held_until_the_next_text_and_no_longer():
    decoder = SseDecoder()
    assert decoder.feed(say("a\ud83d").encode()) == [TextDelta("a")]
    assert decoder.feed(say("b").encode()) == [TextDelta("\ufffdb")]


def test_it_says_when_nothing_more_matters():
    decoder = SseDecoder()
    decoder.feed((say("Hi") + last("stop")).encode())
    assert (decoder.is_finished, decoder.is_done, decoder.failure) == (True, False, None)
    decoder.feed(b"data: [DONE]\n\n")
    assert decoder.is_done
    assert decoder.feed(say("more").encode()) == []


def test_an_error_ends_it_at_once():
    decoder = SseDecoder()
    decoder.feed(event(error={"message": "SECRET"}).encode())
    assert decoder.is_done
    assert decoder.failure is not None
    assert decoder.failure.code is ERROR
    assert "SECRET" not in str(decoder.failure)


@pytest.mark.parametrize("start", [b"data: ", b"", b"{", b": comment"], ids=["data", "unknown", "whole", "comment"])
def test_a_line_without_an_end_is_given_up_at_a_limit(start: bytes):
    decoder = SseDecoder()
    part = b"x" * (1 << 20)
    decoder.feed(start + part)
    fed = 1
    while not decoder.is_done:
        assert fed * len(part) <= MAX_EVENT_BYTES
        decoder.feed(part)
        fed += 1
    assert decoder.failure is not None
    assert decoder.failure.code is INVALID


def test_many_lines_of_one_event_are_given_up_at_the_same_limit():
    decoder = SseDecoder()
    for _ in range(MAX_EVENT_BYTES // 1000 + 1):
        decoder.feed(b"data: " + b"x" * 1000 + b"\n")
    assert decoder.failure is not None
    assert decoder.failure.code is INVALID


def test_a_long_answer_is_no_long_line():
    decoder = SseDecoder()
    data = say("x" * 1000).encode() * 100
    count = sum(len(decoder.feed(data)) for _ in range(60))
    assert (count, decoder.failure) == (6000, None)


def test_what_cannot_be_decoded_is_counted_and_logged_once_without_its_content(caplog: pytest.LogCaptureFixture):
    decoder = SseDecoder()
    with caplog.at_level(logging.DEBUG):
        decoder.feed(b"data: {SECRET\n\nSECRET\ndata: \xffSECRET\n\ndata: 7\n\n" + (say("Hi") + END).encode())
    assert decoder.undecodable == 4
    assert len(caplog.records) == 1
    assert "SECRET" not in caplog.text
