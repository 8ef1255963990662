"""A Function URL event as an ASGI scope and a body."""

import base64

import pytest

from lambda_stream import _event
from lambda_stream._errors import InvalidInvocation
from tests.kit.events import event_names, load_event


def http_request(event):
    request = _event.http_request(event)
    assert request is not None
    return request


def headers_of(scope):
    assert len(dict(scope["headers"])) == len(scope["headers"]), "no name twice"
    return dict(scope["headers"])


@pytest.mark.parametrize("name", event_names())
def test_every_function_url_event_becomes_a_whole_asgi_scope(name):
    scope, body, _ = http_request(load_event(name))
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["http_version"] == "1.1"
    assert scope["scheme"] == "https"
    assert scope["root_path"] == ""
    assert scope["method"].isupper()
    assert scope["server"] == ("k3c2vq7mjn5xw4hdz6tyr8ab1epfgu0s.lambda-url.eu-north-1.on.aws", 443)
    assert isinstance(body, bytes)
    for header, value in scope["headers"]:
        assert header == header.lower()
        assert isinstance(value, bytes)


def test_a_post_keeps_method_path_identity_and_body():
    event = load_event("stream_chat")
    scope, body, _ = http_request(event)
    assert scope["method"] == "POST"
    assert scope["path"] == "/api/chat/01934f9e-6a2b-7c3d-8e4f-5a6b7c8d9e0f/stream"
    assert headers_of(scope)[b"x-session-id"] == b"phone-1"
    assert body == event["body"].encode()
    assert scope["client"] == ("203.0.113.57", 0)


def test_the_path_is_decoded_and_the_raw_path_stays_as_it_was_sent():
    scope, _, _ = http_request(load_event("browser_get"))
    assert scope["path"] == "/café/a/b/한글"
    assert scope["raw_path"] == b"/caf%C3%A9/a%2Fb/%ED%95%9C%EA%B8%80"


@pytest.mark.parametrize(
    ("raw", "path", "raw_path"),
    [
        ("", "/", b"/"),
        ("/한 글", "/한 글", b"/%ED%95%9C%20%EA%B8%80"),  # as API gateways hand it over: decoded already
        ("/a?b#c", "/a?b#c", b"/a%3Fb%23c"),
        ("/%ff", "/\ufffd", b"/%ff"),
        ("/100%", "/100%", b"/100%"),
        ("/a;b=1,2/@:!$&'()*+~-._", "/a;b=1,2/@:!$&'()*+~-._", b"/a;b=1,2/@:!$&'()*+~-._"),
        ("/a%0d%0ab", "/a\r\nb", b"/a%0d%0ab"),
    ],
)
def test_odd_paths_survive(raw, path, raw_path):
    scope, _, _ = http_request(load_event("health", path=raw))
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


def test_the_query_string_is_handed_on_untouched():
    scope, _, _ = http_request(load_event("browser_get"))
    assert scope["query_string"] == b"tag=a&tag=b&q=%EC%84%9C%EC%9A%B8&empty=&flag"


def test_cookies_arrive_once_though_function_urls_deliver_them_twice():
    scope, _, _ = http_request(load_event("browser_get"))
    assert headers_of(scope)[b"cookie"] == b'theme=dark; session="a b"; consent=yes=1'


def test_a_cookie_header_without_the_list_is_kept():
    scope, _, _ = http_request(load_event("health", headers={"Cookie": "a=b"}))
    assert headers_of(scope)[b"cookie"] == b"a=b"


def test_a_base64_body_is_decoded():
    _, body, _ = http_request(load_event("post_binary"))
    assert body == bytes(range(256))


def test_a_text_body_may_hold_what_is_no_valid_unicode():
    _, body, _ = http_request(load_event("stream_chat", body='"\ud800"'))
    assert body == b'"\xed\xa0\x80"'


@pytest.mark.parametrize("absent", [None, ""])
def test_an_absent_body_is_empty(absent):
    _, body, _ = http_request(load_event("create_chat", body=absent))
    assert body == b""


@pytest.mark.parametrize(
    ("text", "sent"),
    [("plain", b"plain"), ("caf\xe9", b"caf\xe9"), ("서울", "서울".encode()), ("\ud800", b"?")],
)
def test_header_values_become_the_bytes_that_were_sent(text, sent):
    scope, _, _ = http_request(load_event("health", headers={"X-Title": text}))
    assert headers_of(scope)[b"x-title"] == sent


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("chat.example", ("chat.example", 443)),
        ("localhost:8000", ("localhost", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("[::1]", ("::1", 443)),
        ("chat.example:" + "9" * 5000, ("chat.example:" + "9" * 5000, 443)),
    ],
)
def test_the_server_comes_from_the_host_header(host, server):
    scope, _, _ = http_request(load_event("health", headers={"host": host}))
    assert scope["server"] == server


def test_without_a_host_header_the_server_is_the_url_itself():
    event = load_event("health")
    del event["headers"]["host"]
    scope, _, _ = http_request(event)
    assert scope["server"] == (event["requestContext"]["domainName"], 443)


@pytest.mark.parametrize(
    "event",
    [load_event("other_sqs"), None, [], "text", 7, {}, {"version": "2.0"}, {"version": "2.0", "requestContext": {}}],
)
def test_what_is_no_http_request_is_none(event):
    assert _event.http_request(event) is None


@pytest.mark.parametrize(
    "event",
    [
        {"version": "2.0", "rawPath": "/", "requestContext": {"http": None}},
        {"version": "2.0", "rawPath": 5, "requestContext": {"http": {"method": "GET"}}},
        load_event("health") | {"headers": {"a": None}},
        load_event("health") | {"headers": ["a"]},
        load_event("health") | {"cookies": [1]},
        load_event("health") | {"body": 1},
        load_event("health") | {"rawPath": "/\ud800"},
        load_event("other_api_gateway_rest") | {"multiValueHeaders": {"secret text": [None]}},
        load_event("other_api_gateway_rest") | {"path": 5},
        load_event("other_api_gateway_rest") | {"requestContext": {"elb": {}}, "httpMethod": 1},
    ],
)
def test_malformed_requests_are_refused_without_their_data(event):
    with pytest.raises(InvalidInvocation) as caught:
        http_request(event)
    assert caught.value.error_type == "Runtime.InvalidEvent"
    assert "secret text" not in caught.value.message
    assert "203.0.113.57" not in caught.value.message


@pytest.mark.parametrize("body", ["%%%", "abc", base64.b64encode(b"x").decode() + "\n!", "é", "\ud800"])
def test_a_body_that_is_not_the_base64_it_claims_to_be_is_refused(body):
    with pytest.raises(InvalidInvocation, match="base64"):
        http_request(load_event("post_binary", body=body))
