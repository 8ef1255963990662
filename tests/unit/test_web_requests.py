"""Headers, ids in path and query, and the bytes of a body."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat.domain.errors import ChatError
from chat.http import request_fields
from chat.http.errors import InvalidRequest, PayloadTooLarge
from chat.http.problems import problem_type
from chat.http.request_fields import LastEventId
from tests.kit.web_request import Body, request_of

ID = "0198c0de-0000-7000-8000-00000000abcd"


@pytest.mark.parametrize(
    ("read", "name"), [(request_fields.USER_ID.read, "X-User-Id"), (request_fields.SESSION_ID.read, "X-Session-Id")]
)
class TestNames:
    def test_a_name_is_returned_as_it_is_without_white_space_around_it(self, read, name):
        assert read(request_of([(name, " Al.ice_1:@+|-\t")])) == "Al.ice_1:@+|-"

    def test_an_absent_header_is_none(self, read, name):
        assert read(request_of()) is None

    @pytest.mark.parametrize(
        "value", ["", "a b", "a,b", "é", "a" * 129, "a\r\nX-User-Id: b", "a\x00", "../x", "a{b}", "<b>"]
    )
    def test_anything_else_is_refused_by_name_and_not_repeated(self, read, name, value):
        with pytest.raises(InvalidRequest) as caught:
            read(request_of([(name, value)]))
        assert name in caught.value.detail
        assert len(value) < 3 or value not in caught.value.detail
        assert "\r" not in caught.value.detail

    def test_two_of_it_are_refused_even_if_they_agree(self, read, name):
        with pytest.raises(InvalidRequest, match=f"{name} was sent more than once"):
            read(request_of([(name, "a"), (name, "a")]))


@pytest.mark.parametrize("value", ["k", "a b", '"8e03978e"', "~" * 200])
def test_an_idempotency_key_is_printable_ascii(value):
    assert request_fields.IDEMPOTENCY_KEY.read(request_of([("Idempotency-Key", value)])) == value


@pytest.mark.parametrize("value", ["", " ", "a" * 201, "k1,k2", "é", "a\nb", "\x7f"])
def test_any_other_idempotency_key_is_refused(value):
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        request_fields.IDEMPOTENCY_KEY.read(request_of([("Idempotency-Key", value)]))


def test_no_idempotency_key_is_none():
    assert request_fields.IDEMPOTENCY_KEY.read(request_of()) is None


def test_an_id_in_the_path_is_canonical_whatever_its_case():
    assert request_fields.CHAT_ID.read(request_of(path_params={"chatId": ID.upper()})) == ID


NO_UUIDS = [
    "",
    "1",
    ID[:-1],
    ID + "0",
    ID.replace("-", ""),
    "{" + ID + "}",
    ID.replace("a", "g"),
    "０" * 36,
    "\x00" * 36,
]


@pytest.mark.parametrize("value", NO_UUIDS)
def test_any_other_id_in_the_path_is_refused_by_name(value):
    with pytest.raises(InvalidRequest, match="chatId in the path must be a UUID"):
        request_fields.CHAT_ID.read(request_of(path_params={"chatId": value}))


def test_an_id_in_the_query_is_canonical_and_may_be_absent():
    request = request_of(query=f"messageId={ID.upper()}")
    assert request_fields.MESSAGE_ID.read(request) == ID
    assert request_fields.USER_MESSAGE_ID.read(request) is None


@pytest.mark.parametrize("query", ["messageId=", "messageId=x", f"messageId={ID}&messageId={ID}", f"messageId=%20{ID}"])
def test_a_malformed_or_repeated_id_in_the_query_is_refused_by_name(query):
    with pytest.raises(InvalidRequest, match="messageId"):
        request_fields.MESSAGE_ID.read(request_of(query=query))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{ID}:1", LastEventId(ID, 1)),
        (f"{ID.upper()}:9999999999", LastEventId(ID, 9_999_999_999)),
        (f"{ID}:done", LastEventId(ID, "done")),
        (f"{ID}:start", LastEventId(ID, 0)),
        ("", None),
    ],
)
def test_the_last_event_id_comes_from_the_header_or_the_query(value, expected):
    assert request_fields.last_event_id(request_of([("Last-Event-ID", value)])) == expected
    assert request_fields.last_event_id(request_of(query=f"lastEventId={value}")) == expected


def test_the_header_counts_when_both_are_there():
    request = request_of([("Last-Event-ID", f"{ID}:2")], query="lastEventId=nonsense")
    assert request_fields.last_event_id(request) == (ID, 2)


def test_without_either_there_is_no_last_event_id():
    assert request_fields.last_event_id(request_of()) is None


BAD_EVENT_IDS = [
    ID,
    f"{ID}:",
    f"{ID}:0",
    f"{ID}:01",
    f"{ID}:-1",
    f"{ID}:1.5",
    f"{ID}:Done",
    f"{ID}:Start",
    f"{ID}:12345678901",
    f"{ID}:1,{ID}:2",
    f"x{ID[1:]}:1",
    "done",
    ":1",
    "1",
]


@pytest.mark.parametrize("value", BAD_EVENT_IDS)
def test_a_malformed_last_event_id_is_refused_by_the_name_it_came_under(value):
    with pytest.raises(InvalidRequest, match="header Last-Event-ID"):
        request_fields.last_event_id(request_of([("Last-Event-ID", value)], query=f"lastEventId={ID}:1"))
    with pytest.raises(InvalidRequest, match="query parameter lastEventId"):
        request_fields.last_event_id(request_of(query=f"lastEventId={value}"))


@pytest.mark.parametrize(
    "request_",
    [
        request_of([("Last-Event-ID", f"{ID}:1")] * 2),
        request_of(query=f"lastEventId={ID}:1&lastEventId={ID}:1"),
    ],
    ids=["header", "query"],
)
def test_a_repeated_last_event_id_is_refused(request_):
    with pytest.raises(InvalidRequest, match="more than once"):
        request_fields.last_event_id(request_)


latin1 = st.text(st.characters(max_codepoint=255), max_size=60)
near_event_ids = st.from_regex(r"[0-9a-fA-F-]{36}:(done|start|[0-9]{1,12})", fullmatch=True)


@given(header=st.none() | latin1 | near_event_ids, query=latin1 | near_event_ids.map(lambda it: f"lastEventId={it}"))
@example(header="²" * 36 + ":1", query="")
def test_whatever_is_sent_the_last_event_id_is_well_formed_or_refused(header, query):
    request = request_of([("Last-Event-ID", header)] if header is not None else [], query=query)
    try:
        found = request_fields.last_event_id(request)
    except ChatError as error:
        assert problem_type(type(error)).status == 400
        assert error.detail.isprintable() and error.detail.isascii() and len(error.detail) < 200
    else:
        assert found is None or found.number == "done" or 0 <= found.number < 10**10


async def test_a_body_in_pieces_is_joined():
    assert await request_fields.read_body(request_of(body=Body(b"ab", b"", b"cd")), 4) == b"abcd"


async def test_a_body_declared_too_long_is_refused_unread():
    body = Body(b"x")
    with pytest.raises(PayloadTooLarge, match="10 bytes"):
        await request_fields.read_body(request_of([("Content-Length", "11")], body), 10)
    assert body.reads == 0


async def test_a_body_that_turns_out_too_long_is_not_read_to_its_end():
    body = Body(*[b"x" * 6] * 100)
    with pytest.raises(PayloadTooLarge):
        await request_fields.read_body(request_of([("Content-Length", "5")], body), 10)
    assert body.reads == 2


async def test_a_body_as_long_as_the_limit_is_accepted():
    assert await request_fields.read_body(request_of([("Content-Length", "10")], b"x" * 10), 10) == b"x" * 10


@pytest.mark.parametrize("length", ["", "-1", "1e3", "5,5", "0x10", "9" * 5000, "²"])
async def test_a_declared_length_that_is_no_number_is_refused(length):
    with pytest.raises(InvalidRequest, match="Content-Length"):
        await request_fields.read_body(request_of([("Content-Length", length)]), 10)


async def test_a_client_that_goes_away_within_its_body_is_refused():
    with pytest.raises(InvalidRequest, match="whole"):
        await request_fields.read_body(request_of(body=Body(b"{", is_cut=True)), 10)
