import base64
import json

import pytest

from local.function_url import (
    ACCOUNT_ID,
    LIMIT_BYTES,
    LOCAL_CALLER,
    BadResponse,
    Head,
    Request,
    from_result,
    split_prelude,
    to_event,
)

PRELUDE = json.dumps({"statusCode": 201, "headers": {"Content-Type": "text/plain"}, "cookies": ["a=1", "b=2"]}).encode()
HEAD = Head(201, [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])


def event_of(headers=(), body=b"", query="", raw_path="/a%20b", path="/a b"):
    request = Request("POST", raw_path, path, query, headers, body, "127.0.0.1")
    return to_event(request, "the-id", "Root=1-2-3", 1_700_000_000.123)


def test_an_event_has_everything_that_a_function_url_gives():
    headers = [
        (b"Host", b"localhost:8000"),
        (b"X-User-Id", b"kim"),
        (b"User-Agent", b"curl"),
        (b"Connection", b"close"),
    ]
    assert event_of([*headers, (b"content-type", b"application/json")], b'{"a": "\xed\x95\x9c"}', "q=1&q=2&r=%20") == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b",
        "rawQueryString": "q=1&q=2&r=%20",
        "queryStringParameters": {"q": "1,2", "r": " "},
        "headers": {
            "host": "localhost:8000",
            "x-user-id": "kim",
            "user-agent": "curl",
            "content-type": "application/json",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "8000",
            "x-amzn-trace-id": "Root=1-2-3",
        },
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "authorizer": {"iam": LOCAL_CALLER},
            "apiId": "localhost:8000",
            "domainName": "localhost:8000",
            "domainPrefix": "localhost:8000",
            "http": {
                "method": "POST",
                "path": "/a b",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl",
            },
            "requestId": "the-id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "14/Nov/2023:22:13:20 +0000",
            "timeEpoch": 1_700_000_000_123,
        },
        "body": '{"a": "한"}',
        "isBase64Encoded": False,
    }


def test_what_is_absent_from_a_request_is_absent_from_its_event():
    event = event_of()
    assert not {"body", "cookies", "queryStringParameters"} & event.keys()
    assert event["rawQueryString"] == "" and event["isBase64Encoded"] is False


def test_a_header_sent_twice_arrives_joined_by_a_comma():
    assert event_of([(b"x-user-id", b"kim"), (b"X-USER-ID", b"lee")])["headers"]["x-user-id"] == "kim,lee"


def test_cookies_leave_the_headers():
    event = event_of([(b"cookie", b"a=1; b=2"), (b"Cookie", b"c=3")])
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in event["headers"]


@pytest.mark.parametrize("declared", ["application/json", "text/event-stream; charset=utf-8", "TEXT/plain"])
def test_a_body_declared_as_text_comes_as_it_is(declared):
    event = event_of([(b"content-type", declared.encode())], "안녕".encode())
    assert (event["body"], event["isBase64Encoded"]) == ("안녕", False)


@pytest.mark.parametrize("declared", ["application/x-www-form-urlencoded", "application/octet-stream", None])
def test_any_other_body_comes_in_base64(declared):
    event = event_of([(b"content-type", declared.encode())] if declared else [], b"a=1")
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"a=1", True)


def test_a_body_that_is_no_text_although_it_says_so_arrives_unharmed():
    event = event_of([(b"content-type", b"application/json")], b"\xff\xfe")
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\xfe", True)


def test_a_prelude_is_recognised_wherever_it_is_split():
    whole = PRELUDE + b"\0" * 8 + b"\0body"
    for length in range(len(PRELUDE) + 8):
        assert split_prelude(whole[:length]) is None
    for length in range(len(PRELUDE) + 8, len(whole) + 1):
        assert split_prelude(whole[:length]) == (HEAD, whole[len(PRELUDE) + 8 : length])


def test_a_streamed_response_loses_the_headers_that_belong_to_a_connection_or_a_length():
    prelude = {"headers": {"Content-Length": "5", "Transfer-Encoding": "chunked", "Connection": "close", "X-A": "1"}}
    head, _ = split_prelude(json.dumps(prelude).encode() + b"\0" * 8)
    assert head == (200, [(b"x-a", b"1")])


@pytest.mark.parametrize(
    "prelude",
    [
        "not json",
        "[]",
        '{"statusCode": "200"}',
        '{"statusCode": 99}',
        '{"headers": []}',
        '{"cookies": "a=1"}',
        '{"headers": {"x-a": "1\\r\\nx-b: 2"}}',
        '{"headers": {"x a": "1"}}',
        '{"headers": {"x-a": "한"}}',
        '{"cookies": ["a=1\\nx-b: 2"]}',
    ],
)
def test_a_prelude_that_makes_no_response_is_refused(prelude):
    with pytest.raises(BadResponse):
        split_prelude(prelude.encode() + b"\0" * 8)


def test_a_prelude_without_end_is_given_up():
    with pytest.raises(BadResponse):
        split_prelude(b" " * (1024 * 1024 + 1))


def test_a_result_with_a_status_becomes_a_response():
    result = {"statusCode": 404, "headers": {"X-A": 1, "content-length": "99"}, "cookies": ["a=1"], "body": "없음"}
    head, body = from_result(json.dumps(result).encode())
    assert body.decode() == "없음"
    assert head == (404, [(b"x-a", b"1"), (b"set-cookie", b"a=1"), (b"content-length", b"6")])


def test_a_result_in_base64_is_decoded():
    result = {"statusCode": 200, "body": base64.b64encode(b"\0\xff").decode(), "isBase64Encoded": True}
    assert from_result(json.dumps(result).encode())[1] == b"\0\xff"


def test_a_result_without_a_status_is_the_body_itself():
    head, body = from_result(b'{"pid": 1}')
    assert (head.status, json.loads(body)) == (200, {"pid": 1})
    assert (b"content-type", b"application/json") in head.headers


@pytest.mark.parametrize(
    "result",
    [
        b"no json",
        b'{"statusCode": 200, "body": {}}',
        b'{"statusCode": 200, "body": "?", "isBase64Encoded": true}',
        b'{"statusCode": null}',
        b'"' + b" " * LIMIT_BYTES + b'"',
    ],
)
def test_a_result_that_makes_no_response_is_refused(result):
    with pytest.raises(BadResponse):
        from_result(result)
