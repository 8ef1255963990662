"""docs/openapi.json says what the code does: neither more nor less."""

import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import jsonschema_rs
import pytest
import schemathesis
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from chat.application.cancel_answer import Cancelled, Cancelling, NotActive
from chat.domain.answer import Answer
from chat.domain.errors import FAILURES, ChatError, FailureCode
from chat.domain.model import AnswerIds, Outcome, Source, Status, Usage, is_name, new_id
from chat.http.errors import InvalidRequest, RequestError
from chat.http.problems import problem_headers, problem_members, problem_type
from chat.http.request_fields import IDEMPOTENCY_KEY, last_event_id
from chat.http.routes import describe
from chat.http.sse import encode_events
from chat.settings import Settings
from openapi import problems
from openapi.document import PLACE, applications, document, text
from openapi.events import NAMES, item_schema
from openapi.operations import OPERATIONS
from openapi.schemas import DEFAULT_CONTENT_CHARS, KEY, LAST_EVENT_ID, NAME
from tests.kit.web_request import request_of

DOCUMENT = json.loads(PLACE.read_text())
MESSAGE_ID = new_id()


def conforms(schema: dict, value: object) -> bool:
    """Tell whether a value fits a schema of the document, and has no field that the schema does not name."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True).is_valid(value)


def named(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def fields(name: str) -> set[str]:
    return set(DOCUMENT["components"]["schemas"][name]["properties"])


def responses():
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                if "$ref" in response:
                    response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
                yield method.upper(), path, status, response


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}


def test_the_file_is_up_to_date():
    assert PLACE.read_text() == text(), "run `make openapi`"


def test_it_is_a_valid_openapi_document():
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.validate()
    assert {result.ok().label for result in schema.get_all_operations()} == {f"{m} {p}" for m, p in described()}


def test_every_route_is_described_and_nothing_else_is():
    real = {(method, route.path) for app in applications().values() for route in app.routes for method in route.methods}
    real = {(method, path) for method, path in real if method != "HEAD"}  # HEAD is described in words
    assert len(real) > 12
    assert described() == real
    assert set(OPERATIONS) < real


def test_a_route_that_nobody_described_cannot_be_left_out(monkeypatch):
    monkeypatch.delitem(OPERATIONS, ("GET", "/health"))
    with pytest.raises(KeyError):
        document()


def test_every_problem_has_its_code_status_headers_and_an_example():
    kinds = list(problems.PROBLEM_TYPES)
    known = {*ChatError.__subclasses__(), *RequestError.__subclasses__()} - {RequestError}
    assert set(kinds) == {ChatError, *(kind for kind in known if kind.__module__.startswith("chat."))}
    assert DOCUMENT["components"]["schemas"]["ProblemCode"]["enum"] == [kind.code for kind in kinds]
    for kind in kinds:
        response = DOCUMENT["components"]["responses"][kind.code]
        (example,) = [entry["value"] for entry in response["content"]["application/problem+json"]["examples"].values()]
        assert (example["code"], example["status"], example["title"]) == (kind.code, *problem_type(kind))
        error = problems._example(kind)
        assert set(response["headers"]) == {"Cache-Control", *problem_headers(error)}
        assert set(example) - {"type", "title", "status", "detail", "code", "requestId"} == set(problem_members(error))


def test_a_status_of_an_operation_names_all_its_problems():
    told = {
        (method, status): set(response["content"]["application/problem+json"]["examples"])
        for method, path, status, response in responses()
        if path.endswith("/stream") and "application/problem+json" in response.get("content", {})
    }
    assert told["POST", "409"] == {"stream_in_progress", "idempotency_conflict"}
    assert told["POST", "429"] == {"rate_limited"}
    assert ("GET", "409") not in told


def test_every_example_fits_its_schema():
    checked = 0
    for *_, response in responses():
        for media_type, content in response.get("content", {}).items():
            for example in content.get("examples", {}).values():
                assert media_type == "text/event-stream" or conforms(content["schema"], example["value"]), example
                checked += 1
    for operation in OPERATIONS.values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for example in content["examples"].values():
                assert conforms(content["schema"], example["value"])
                checked += 1
    assert checked > 40


def streams() -> list[Answer]:
    """Answers that make every event there is."""
    identity = AnswerIds(new_id(), MESSAGE_ID, new_id(), "phone", "model")
    made = []
    for code in (None, *FailureCode):
        answer = Answer(identity)
        answer.begin()
        answer.append_reasoning("hm")
        answer.append_text("안녕\n하세요 😀")
        answer.add_sources([Source("a", "https://example.com")])
        answer.add_title("A greeting")
        answer.dropped = 0 if code is None else 1
        status = Status.COMPLETED if code is None else Status.FAILED
        is_kept = code is None
        outcome = Outcome(status, "stop" if is_kept else None, code)
        answer.end(outcome, Usage(1, 2), is_saved=is_kept, is_truncated=not is_kept)
        made.append(answer)
    return made


@pytest.mark.parametrize("answer", streams(), ids=lambda answer: answer.outcome.error_code or "completed")
def test_the_events_that_the_code_makes_are_those_described(answer):
    for event in answer.events:
        assert conforms(named(NAMES[event.name]), json.loads(event.data)), event
        rare = {"saved", "truncated", "dropped"}
        assert set(json.loads(event.data)) | rare == fields(NAMES[event.name]) | rare
    assert {event.name for event in answer.events} >= set(NAMES) - {"failure"}


def received(stream: str) -> list[dict]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=stream)
    return [{"data": one.data, "id": one.id, "event": one.event} for one in EventSource(response).iter_sse()]


@pytest.mark.parametrize("answer", streams(), ids=lambda answer: answer.outcome.error_code or "completed")
def test_an_event_as_a_client_receives_it_fits_one_item_schema(answer):
    items = received(encode_events(answer.events, MESSAGE_ID).decode())
    assert len(items) == len(answer.events)
    for item in items:
        assert conforms(item_schema(), item), item
    assert not conforms(item_schema(), {**items[0], "event": "error"})
    assert not conforms(item_schema(), {**items[0], "id": "7"})


def test_the_examples_of_streams_are_whole_streams():
    examples = DOCUMENT["paths"]["/api/chat/{chatId}/stream"]["post"]["responses"]["200"]["content"][
        "text/event-stream"
    ]["examples"]
    for name, example in examples.items():
        items = received(example["value"])
        assert (items[0]["event"], items[-1]["event"]) == ("start", "done")
        assert json.loads(items[-1]["data"])["status"] == name
        assert all(conforms(item_schema(), item) for item in items)


def test_every_failure_code_and_status_is_named():
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["FailureEvent"]["properties"]["code"]["enum"]) == set(FAILURES)
    assert set(schemas["DoneEvent"]["properties"]["status"]["enum"]) == set(Status) - {Status.STREAMING}


def test_what_a_cancel_answers_is_described():
    created = datetime.now(UTC)
    answer = SimpleNamespace(
        identity=SimpleNamespace(message_id=MESSAGE_ID),
        text="half",
        created_at=created,
        finished_at=created + timedelta(seconds=1.2345),
    )
    content = DOCUMENT["paths"]["/api/chat/{chatId}/cancel"]["post"]["responses"]["200"]["content"]["application/json"]
    for outcome in (Cancelled(answer), Cancelling(None), Cancelling(MESSAGE_ID), NotActive()):
        told = describe(outcome)
        assert conforms(content["schema"], told)
        assert set(told) == fields(type(outcome).__name__)


@given(st.text(max_size=140) | st.from_regex(NAME["pattern"]))
def test_the_form_of_a_name_is_the_codes(value):
    assert bool(re.search(NAME["pattern"].replace("$", r"\Z"), value)) == is_name(value)


@given(st.text(st.characters(max_codepoint=255), max_size=220) | st.from_regex(KEY["pattern"], fullmatch=True))
def test_the_form_of_an_idempotency_key_is_the_codes(value):
    if value != value.strip(" \t"):
        return  # a server takes white space off before anybody sees it
    try:
        accepted = IDEMPOTENCY_KEY.read(request_of([("Idempotency-Key", value)])) is not None
    except InvalidRequest:
        accepted = False
    assert bool(re.fullmatch(KEY["pattern"], value)) == accepted


@given(st.text(max_size=60) | st.from_regex(LAST_EVENT_ID["pattern"], fullmatch=True))
def test_the_form_of_an_events_id_is_the_codes(value):
    try:
        last_event_id(request_of(query=str(httpx.QueryParams(lastEventId=value))))
        accepted = True
    except InvalidRequest:
        accepted = False
    assert bool(re.fullmatch(LAST_EVENT_ID["pattern"], value)) == accepted


def test_the_limit_of_a_message_is_the_settings_default():
    settings = Settings.read({"REDIS_URL": "redis://x", "MYSQL_URL": "sqlite:///x"})
    assert settings.max_content_chars == DEFAULT_CONTENT_CHARS
