"""JSON bodies and their fields."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat.domain.errors import ChatError, InvalidContent
from chat.http.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from chat.http.problems import problem_type
from chat.http.request_fields import MESSAGE_ID_FIELD, content_field, read_json, text_field
from tests.kit.web_request import Body, request_of

LIMIT = 262_144
ID = "0198c0de-0000-7000-8000-00000000abcd"


async def read(body: bytes, content_type: str | None = "application/json", **options):
    headers = [("Content-Type", content_type)] if content_type is not None else []
    return await read_json(request_of(headers, body), LIMIT, **options)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "Application/JSON; Charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/vnd.api+json",
        "text/plain",
        "text/plain;charset=us-ascii",
        "text/event-stream",
        "text/html",
    ],
)
async def test_json_is_read_whatever_text_it_is_declared_as(content_type):
    assert await read('{"content": "안녕"}'.encode(), content_type) == {"content": "안녕"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/xml",
        "application/xml",
        "image/svg+xml",
        "application/octet-stream",
        "image/png",
        "application/x-ndjson",
        "text/plain,text/plain",
        "json",
        "*/*",
        "application/json; charset=utf-16",
        "text/plain;charset=iso-8859-1",
    ],
)
async def test_a_body_declared_as_something_else_is_refused(content_type):
    with pytest.raises(UnsupportedMediaType):
        await read(b"{}", content_type)


async def test_a_compressed_body_is_refused():
    with pytest.raises(UnsupportedMediaType, match="compressed"):
        await read_json(request_of([("Content-Encoding", "gzip")], b"{}"), LIMIT)


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", [b"", b" \r\n"])
async def test_no_body_is_an_empty_object_where_that_is_allowed(body, content_type):
    assert await read(body, content_type, may_be_empty=True) == {}
    with pytest.raises(InvalidRequest, match="missing"):
        await read(body, content_type)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": 1', "not JSON: .* (line 1, column 8)"),
        (b'{"a": 1} x', "Extra data"),
        (b"{'a': 1}", "double quotes"),
        (b'{"a": "\n"}', "control character"),
        (b"\xff\xfe{}", "not UTF-8: see byte 0"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8: see byte 7"),
        (b'{"a": NaN}', "NaN is no JSON value"),
        (b'{"a": -Infinity}', "-Infinity is no JSON value"),
        (b'{"a": {"b": 1, "b": 1}}', "the field b more than once"),
        (b'{"<b>": 1, "<b>": 1}', "has a field more than once"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 40_000, "nested too deeply"),
        (b"\xef\xbb\xbf", "not JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused_with_the_reason(body, why):
    with pytest.raises(InvalidRequest, match=why.replace("(", r"\(").replace(")", r"\)")):
        await read(body)


async def test_a_byte_order_mark_and_numbers_of_any_size_are_tolerated():
    body = b"\xef\xbb\xbf" + b'{"a": 1' + b"0" * 10_000 + b', "b": 1e999, "c": "x"}'
    assert (await read(body))["c"] == "x"


async def test_the_limit_holds_for_json_too():
    with pytest.raises(PayloadTooLarge):
        await read_json(request_of(body=b'{"a": "' + b"x" * 100 + b'"}'), 50)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)
bodies = st.binary() | json_values.map(lambda value: json.dumps(value).encode()) | st.text().map(lambda t: t.encode())
content_types = st.none() | st.text(st.characters(max_codepoint=255)) | st.sampled_from(["application/json", "text/x"])


@given(body=bodies, content_type=content_types, length=st.none() | st.text(st.characters(max_codepoint=255)))
@example(body=b'{"a":1,"a":1}', content_type=None, length=None)
@example(body=b'{"\\ud800":1,"\\ud800":1}', content_type=None, length=None)
async def test_whatever_is_sent_a_body_is_an_object_or_refused(body, content_type, length):
    headers = [("Content-Type", content_type)] if content_type is not None else []
    headers += [("Content-Length", length)] if length is not None else []
    try:
        found = await read_json(request_of(headers, Body(body[:5], body[5:])), 100, may_be_empty=True)
    except ChatError as error:
        assert problem_type(type(error)).status in (400, 413, 415)
        assert error.detail.isprintable() and error.detail.isascii() and len(error.detail) < 250
    else:
        assert isinstance(found, dict)


@pytest.mark.parametrize(
    "content",
    ["안녕", " x ", "\x00x", "\ufeffx", "\u200b.", "data: x\n\nevent: done\n\n", "\U0001f468‍\U0001f469", "가" * 20],
)
def test_content_is_returned_as_it_came(content):
    assert content_field({"content": content, "unknown": 1}, 20 if content[0] == "가" else 100) == content


@pytest.mark.parametrize("body", [{}, {"content": None}, {"content": 1.0}, {"content": ["x"]}, {"content": {}}])
def test_content_that_is_missing_or_no_string_is_an_invalid_request(body):
    with pytest.raises(InvalidRequest, match="content"):
        content_field(body, 20)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        (" \t\r\n\u3000\u2028", "empty"),
        ("\x00", "empty"),
        ("\ufeff", "empty"),
        ("\u200b\u200c\u200d\u2060 \u00ad", "empty"),
        ("\u3164\ufe0f\u2800\U000e0020", "empty"),
        ("x" * 21, "at most 20"),
        ("a\ud800", "surrogate"),
        ("\udc00\ud800", "surrogate"),
    ],
)
def test_content_that_cannot_be_accepted_is_invalid_content(content, why):
    with pytest.raises(InvalidContent, match=why):
        content_field({"content": content}, 20)


async def test_an_escaped_surrogate_pair_is_one_character_and_half_of_one_is_refused():
    assert content_field(await read(b'{"content": "\\ud83d\\ude00"}'), 1) == "\U0001f600"
    with pytest.raises(InvalidContent, match="surrogate"):
        content_field(await read(b'{"content": "\\ud83d"}'), 1)


@pytest.mark.parametrize(
    ("body", "expected"), [({}, None), ({"title": None}, None), ({"title": ""}, ""), ({"title": "가"}, "가")]
)
def test_a_text_may_be_absent_or_null(body, expected):
    assert text_field(body, "title", 1) == expected


@pytest.mark.parametrize("value", ["xx", 1.0, ["x"], False, "\ud800"])
def test_any_other_text_is_refused_by_name(value):
    with pytest.raises(InvalidRequest, match="title"):
        text_field({"title": value}, "title", 1)


def test_an_id_is_canonical_and_may_be_absent_or_null():
    assert MESSAGE_ID_FIELD.read({"messageId": ID.upper()}) == ID
    assert MESSAGE_ID_FIELD.read({"messageId": None}) is None
    assert MESSAGE_ID_FIELD.read({}) is None


@pytest.mark.parametrize("value", ["", "x", ID.replace("-", ""), 1.0, [ID], False])
def test_any_other_id_is_refused_by_name(value):
    with pytest.raises(InvalidRequest, match="messageId"):
        MESSAGE_ID_FIELD.read({"messageId": value})
