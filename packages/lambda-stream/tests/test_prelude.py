"""The prelude of a streamed response."""

import json

import pytest

from lambda_stream._errors import InvalidResponse
from lambda_stream._prelude import MAX_BYTES, encode


def decoded(status, headers):
    prelude = encode(status, headers)
    assert prelude.endswith(bytes(8))
    assert b"\0" not in prelude[:-8]
    return json.loads(prelude[:-8])


def test_a_prelude_is_status_headers_and_eight_nuls():
    prelude = encode(200, [(b"Content-Type", b"text/event-stream")])
    assert prelude == b'{"statusCode":200,"headers":{"content-type":"text/event-stream"}}' + b"\0" * 8


def test_header_values_are_strings_and_repeats_are_joined_by_commas():
    document = decoded(200, [(b"vary", b"origin"), (b"Vary", b"accept"), (b"content-length", b"5")])
    assert document == {"statusCode": 200, "headers": {"vary": "origin, accept", "content-length": "5"}}


def test_cookies_go_into_their_own_list_and_are_never_joined():
    document = decoded(201, [(b"set-cookie", b"a=1; Expires=Thu, 01 Jan 2026"), (b"Set-Cookie", b"b=2")])
    assert document["cookies"] == ["a=1; Expires=Thu, 01 Jan 2026", "b=2"]
    assert "set-cookie" not in document["headers"]


def test_hop_by_hop_headers_are_left_out_with_those_that_connection_names():
    names = [b"keep-alive", b"transfer-encoding", b"Upgrade", b"te", b"trailer", b"proxy-connection", b"x-mine"]
    headers = [(b"connection", b"close, X-Mine"), *((name, b"x") for name in names), (b"x-other", b"kept")]
    assert decoded(200, headers)["headers"] == {"x-other": "kept"}


def test_values_outside_ascii_and_nuls_in_json_cannot_end_the_prelude_early():
    assert decoded(200, [(b"x-name", "é".encode("latin-1"))])["headers"] == {"x-name": "é"}


@pytest.mark.parametrize("status", [200, 204, 404, 599])
def test_final_statuses_pass(status):
    assert decoded(status, [])["statusCode"] == status


@pytest.mark.parametrize("status", [100, 199, 600, 0, -1, "200", None])
def test_other_statuses_are_refused(status):
    with pytest.raises(InvalidResponse, match="status"):
        encode(status, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"", b"x"), (b"a b", b"x"), (b"a:", b"x"), (b"a\r\nb", b"x"), (b"a", b"x\r\ny"), (b"a", b"x\ny"), (b"a", b"\0")],
)
def test_headers_that_would_split_the_response_are_refused(name, value):
    with pytest.raises(InvalidResponse, match="Not a header"):
        encode(200, [(name, value)])


def test_a_prelude_just_under_the_limit_passes_and_one_at_it_is_refused():
    empty = len(encode(200, [(b"x", b"")])) - 8
    assert len(encode(200, [(b"x", b"y" * (MAX_BYTES - 1 - empty))])) == MAX_BYTES - 1 + 8
    with pytest.raises(InvalidResponse, match=r"16384 bytes; Lambda allows less than 16384"):
        encode(200, [(b"x", b"y" * (MAX_BYTES - empty))])
