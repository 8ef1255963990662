"""The AI client against OpenAI-compatible servers that are not ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest

from chat.application.ports import Finish, ReasoningDelta, StreamPart, TextDelta
from chat.domain.errors import FailureCode
from chat.domain.model import ChatMessage, Usage
from tests.kit import foreign_ais
from tests.kit.ai_client import TRANSPORTS, Asked, asking, joined

pytestmark = pytest.mark.xdist_group("foreign_ais")

ANSWER = '안녕하세요! 👋🏽 How are you?\n\n- fine\u2028- "quoted" \\ back'
SIMPLER = ANSWER.replace("\u2028", "")
"""mockllm reads its answers from YAML, where that character ends a line."""
FIXTURES = [
    {"match": {"userMessage": "hello"}, "response": {"content": ANSWER}},
    {"match": {"userMessage": "think"}, "response": {"content": "So it is.", "reasoning": "Let me see."}},
    {"match": {"userMessage": "long"}, "response": {"content": "word " * 2000}, "chunkSize": 5},
    {
        "match": {"userMessage": "cut"},
        "response": {"content": ANSWER},
        "chunkSize": 1,
        "latency": 5,
        "truncateAfterChunks": 4,
    },
    {"match": {"userMessage": "slow"}, "response": {"content": "word " * 2000}, "chunkSize": 1, "latency": 20},
    {"match": {"userMessage": "full"}, "response": {"content": ANSWER, "finishReason": "length"}},
    {"match": {"userMessage": "bad"}, "response": {"error": {"message": "SECRET", "type": "x"}, "status": 400}},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "SECRET", "type": "x"}, "status": 503}},
]


@pytest.fixture(scope="module")
def llmock() -> Iterator[str]:
    with foreign_ais.llmock() as url:
        yield url


@pytest.fixture(scope="module")
def mockllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign_ais.mockllm(tmp_path_factory.mktemp("mockllm"), {"hello": SIMPLER}) as url:
        yield url


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign_ais.aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as url:
        yield url


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> httpx.AsyncBaseTransport:
    return TRANSPORTS[request.param]()


async def collect(asked: Asked, message: str) -> tuple[list[StreamPart], FailureCode | None]:
    return await asked.collect(turns=[ChatMessage("system", "Be brief."), ChatMessage("user", message)])


# mockllm: FastAPI and uvicorn, one character a chunk, no usage


async def test_mockllm_answers_character_by_character(mockllm: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{mockllm}/v1", transport) as asked:
        pieces, failure = await collect(asked, "hello")
    assert (joined(pieces), failure) == (SIMPLER, None)
    assert pieces == [*(TextDelta(character) for character in SIMPLER), Finish("stop")]


async def test_mockllm_answers_many_at_once(mockllm: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{mockllm}/v1", transport) as asked:
        answers = await asyncio.gather(*(collect(asked, "hello") for _ in range(20)))
    assert {joined(pieces) for pieces, _ in answers} == {SIMPLER}


# aimock: Node.js


async def test_aimock_answers(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        for _ in range(3):
            pieces, failure = await collect(asked, "hello")
            assert (joined(pieces), failure) == (ANSWER, None)
            assert Finish("stop") in pieces
            assert isinstance(pieces[-1], Usage)
            assert pieces[-1].output_tokens > 0


async def test_aimock_thinks_apart(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        pieces, failure = await collect(asked, "think")
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta))
    assert (reasoning, joined(pieces), failure) == ("Let me see.", "So it is.", None)


async def test_aimock_answers_at_length(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        pieces, failure = await collect(asked, "long")
    assert (joined(pieces), failure) == ("word " * 2000, None)


async def test_aimock_stops_at_the_limit(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        pieces, failure = await collect(asked, "full")
    assert (joined(pieces), failure) == (ANSWER, None)
    assert Finish("length") in pieces


async def test_an_answer_that_aimock_cuts_is_incomplete(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        pieces, failure = await collect(asked, "cut")
    assert failure is FailureCode.AI_INCOMPLETE
    assert ANSWER.startswith(joined(pieces))
    assert 0 < len(joined(pieces)) < len(ANSWER)


@pytest.mark.parametrize(
    ("message", "code", "tries"), [("bad", FailureCode.AI_REJECTED, 1), ("busy", FailureCode.AI_UNAVAILABLE, 3)]
)
async def test_what_aimock_refuses_fails_with_its_code(
    aimock: str, transport: httpx.AsyncBaseTransport, message: str, code: FailureCode, tries: int
):
    async with asking(f"{aimock}/v1", transport) as asked:
        assert await collect(asked, message) == ([], code)
    assert len(asked.pauses) == tries - 1


async def test_an_answer_of_aimock_can_be_left(aimock: str, transport: httpx.AsyncBaseTransport):
    async with asking(f"{aimock}/v1", transport) as asked:
        async with aclosing(asked.ai.answer([ChatMessage("user", "slow")], 100, asked.ai.models[0])) as batches:
            first = await anext(batches)
        assert joined(list(first)) == "w"
        pieces, failure = await collect(asked, "hello")
    assert (joined(pieces), failure) == (ANSWER, None)


# llmock: breaks what it is told to, and judges how its client took it


@asynccontextmanager
async def breaking(
    url: str, transport: httpx.AsyncBaseTransport, *behaviors: dict[str, object], **changes: object
) -> AsyncIterator[Asked]:
    """Let llmock break the next answers in these ways, one each; pauses between tries are really made."""
    reply = {"type": "reply", "text": ANSWER, "times": None}
    async with httpx.AsyncClient(base_url=f"{url}/_llmock") as control:
        (await control.post("/reset")).raise_for_status()
        (await control.post("/scenario", json={"behaviors": [*behaviors, reply]})).raise_for_status()
    async with asking(f"{url}/v1", transport, **changes) as asked:
        asked.make_pauses(asyncio.sleep)
        yield asked


async def verdict(url: str) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=f"{url}/_llmock") as control:
        found = (await control.get("/verdict")).json()
        return {"calls": found["calls"], "attempts": found["attempts"], "findings": found["findings"]}


async def test_llmock_answers(llmock: str, transport: httpx.AsyncBaseTransport):
    async with breaking(llmock, transport) as asked:
        pieces, failure = await collect(asked, "hello")
        assert (joined(pieces), failure) == (ANSWER, None)
        assert isinstance(pieces[-1], Usage)
    assert await verdict(llmock) == {"calls": 1, "attempts": 1, "findings": []}


@pytest.mark.parametrize("status", [429, 503])
async def test_llmock_finds_no_fault_with_how_errors_are_tried_again(
    llmock: str, transport: httpx.AsyncBaseTransport, status: int
):
    async with breaking(llmock, transport, {"type": "fail", "status": status, "times": 2}) as asked:
        pieces, failure = await collect(asked, "hello")
    assert (joined(pieces), failure) == (ANSWER, None)
    assert await verdict(llmock) == {"calls": 1, "attempts": 3, "findings": []}


@pytest.mark.parametrize("seconds", [0.4, 1])
async def test_llmock_finds_that_its_pauses_are_made(llmock: str, transport: httpx.AsyncBaseTransport, seconds: float):
    async with breaking(llmock, transport, {"type": "fail", "status": 429, "retry_after": seconds}) as asked:
        pieces, failure = await collect(asked, "hello")
    assert (joined(pieces), failure) == (ANSWER, None)
    assert await verdict(llmock) == {"calls": 1, "attempts": 2, "findings": []}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_llmock_finds_that_what_it_rejects_is_not_tried_again(
    llmock: str, transport: httpx.AsyncBaseTransport, status: int
):
    async with breaking(llmock, transport, {"type": "fail", "status": status}) as asked:
        assert await collect(asked, "hello") == ([], FailureCode.AI_REJECTED)
    assert await verdict(llmock) == {"calls": 1, "attempts": 1, "findings": []}


@pytest.mark.parametrize("kind", ["disconnect", "truncate"])
async def test_a_stream_that_llmock_breaks_off_is_incomplete_and_not_sent_again(
    llmock: str, transport: httpx.AsyncBaseTransport, kind: str
):
    async with breaking(llmock, transport, {"type": "stream_fault", "kind": kind, "after_chunks": 3}) as asked:
        pieces, failure = await collect(asked, "hello")
    assert failure is FailureCode.AI_INCOMPLETE
    assert ANSWER.startswith(joined(pieces))
    assert 0 < len(joined(pieces)) < len(ANSWER)
    assert (await verdict(llmock))["attempts"] == 1


async def test_a_chunk_that_llmock_garbles_is_skipped(llmock: str, transport: httpx.AsyncBaseTransport):
    async with breaking(llmock, transport, {"type": "stream_fault", "kind": "malformed", "after_chunks": 2}) as asked:
        pieces, failure = await collect(asked, "hello")
    assert failure in (None, FailureCode.AI_INCOMPLETE)
    assert joined(pieces)


async def test_a_stream_that_llmock_lets_stall_times_out(llmock: str, transport: httpx.AsyncBaseTransport):
    fault = {"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 60}
    async with breaking(llmock, transport, fault, stall_timeout_seconds=0.5) as asked:
        pieces, failure = await collect(asked, "hello")
    assert failure is FailureCode.AI_TIMEOUT
    assert ANSWER.startswith(joined(pieces))
    assert joined(pieces)
    assert not any(found["code"] == "no_read_timeout" for found in (await verdict(llmock))["findings"])


@pytest.mark.parametrize("kind", ["delay", "slow_first_token"])
async def test_llmock_silent_before_the_first_token_times_out(
    llmock: str, transport: httpx.AsyncBaseTransport, kind: str
):
    async with breaking(llmock, transport, {"type": kind, "seconds": 60}, first_token_timeout_seconds=0.5) as asked:
        assert await collect(asked, "hello") == ([], FailureCode.AI_TIMEOUT)
