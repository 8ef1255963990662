"""What an answer's life leaves in the log, and in CloudWatch."""

import asyncio
import hashlib
import hmac
import logging
from types import SimpleNamespace

import pytest

from chat.adapters.telemetry import metric_names
from chat.adapters.telemetry.answer_telemetry import LoggingTelemetry
from chat.application.ports import Finish, Usage
from chat.application.telemetry_events import (
    ActiveAnswersCounted,
    AnswerEnded,
    AnswerStarted,
    CancelAnswered,
    FallbackTaken,
    FeedbackGiven,
    FirstDeltaSent,
    LimitReached,
    OrphanRecovered,
    Probe,
    StoresProbed,
)
from chat.domain.answer import Answer
from chat.domain.errors import AnswerFailed, FailureCode, RateLimited
from chat.domain.model import AnswerIds, Status, new_id
from chat.log_context import bind, ids
from chat.settings import Secret, TelemetrySettings
from tests.kit.ai import ScriptedAI
from tests.kit.chats import MemoryChats
from tests.kit.coordination import NoRateLimiter
from tests.kit.log_lines import dimensions, metrics, of, parse
from tests.kit.waiting import until
from tests.kit.world import World

LIFE = [metric_names.STARTED, metric_names.FIRST_DELTA, metric_names.ENDED]


def settings(**changes) -> TelemetrySettings:
    return TelemetrySettings(**{"service": "stream_chat", "namespace": "tests", "level": "INFO", **changes})


@pytest.fixture
def telemetry() -> LoggingTelemetry:
    return LoggingTelemetry(settings())


@pytest.fixture
def lines(capsys):
    return lambda: parse(capsys.readouterr().out)


def world_of(telemetry, *script, **more) -> World:
    return World(MemoryChats(), ai=ScriptedAI(*script), telemetry=telemetry, **more)


async def test_an_answer_is_one_line_at_its_start_one_at_its_first_text_and_one_at_its_end(telemetry, lines):
    world = world_of(telemetry, "안녕", "하세요", Usage(7, 5), Finish("stop"))
    telemetry.record(ActiveAnswersCounted(4))
    with bind(requestId="request-1"):
        client = await world.ask(await world.new_chat())
    found = lines()
    assert [line["message"] for line in found] == LIFE
    who = {key: client.start[key] for key in ("chatId", "messageId", "userMessageId")}
    for line in found:
        assert {key: line[key] for key in who} == who
        assert (line["requestId"], line["service"], line["level"]) == ("request-1", "stream_chat", "INFO")
        assert line["user"] == found[0]["user"]
    started, first, ended = (metrics(line) for line in found)
    assert started.keys() == {"AnswerStarted", "ProcessStreams", "ActiveStreams", "RedisWait"}
    assert (started["ProcessStreams"], started["ActiveStreams"]) == (1, 4)
    assert first["FirstDelta"] <= ended["AnswerDuration"]
    del ended["AnswerDuration"]
    assert ended == {"AnswerCompleted": 1, "Deltas": 2, "InputTokens": 7, "OutputTokens": 5}
    told = {key: found[2][key] for key in ("status", "finishReason", "characters", "usageEstimated")}
    assert told == {"status": "completed", "finishReason": "stop", "characters": 5, "usageEstimated": False}


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED, Status.FAILED, Status.TIMEOUT])
async def test_each_end_is_counted_under_its_own_name(status, telemetry, lines):
    silence = asyncio.Event()
    last = {
        Status.COMPLETED: Finish("stop"),
        Status.FAILED: AnswerFailed(FailureCode.AI_ERROR),
    }.get(status, silence)
    world = world_of(telemetry, "half", last)
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id, seconds=0.5 if status is Status.TIMEOUT else 900)
    if status is Status.CANCELLED:
        await client.has(2)
        await world.cancel(chat_id)
    await task
    (line,) = of(lines(), metric_names.ENDED)
    assert line["status"] == status
    assert {name for name in metrics(line) if name.startswith("Answer")} == {
        "AnswerDuration",
        metric_names.ENDS[status].name,
    }
    assert line.get("errorCode") == {Status.FAILED: "ai_error", Status.TIMEOUT: "deadline"}.get(status)
    assert line["level"] == ("WARNING" if status in (Status.FAILED, Status.TIMEOUT) else "INFO")


async def test_sixteen_answers_at_once_have_each_its_own_ids_and_numbers(telemetry, lines):
    """Invariant of issue 4: powertools' keys and metrics are the process's, ours are the answer's."""
    gates = [asyncio.Event() for _ in range(16)]
    chats, asked = MemoryChats(), {}

    async def one(number: int) -> None:
        script = [*["x"] * number, gates[number], "y", Usage(number, number), Finish("stop")]
        world = World(chats, ai=ScriptedAI(*script), telemetry=telemetry)
        world.user = f"user-{number}"
        with bind(requestId=f"request-{number}"):
            client, task = await world.begin(await world.new_chat(), session=f"session-{number}")
            asked[client.start["messageId"]] = number
            await client.has(1 + number)
        await task

    tasks = [asyncio.create_task(one(number)) for number in range(16)]
    await until(lambda: len(asked) == 16, "all answers run")
    for gate in reversed(gates):
        gate.set()
    await asyncio.gather(*tasks)

    found = lines()
    assert len(found) == 16 * len(LIFE)
    assert max(metrics(line)["ProcessStreams"] for line in of(found, metric_names.STARTED)) == 16
    for message_id, number in asked.items():
        life = [line for line in found if line["messageId"] == message_id]
        assert sorted(line["message"] for line in life) == sorted(LIFE)
        assert {line["requestId"] for line in life} == {f"request-{number}"}
        assert len({line["session"] for line in life}) == 1
        (ended,) = of(life, metric_names.ENDED)
        assert (ended["Deltas"], ended["InputTokens"], ended["characters"]) == (number + 1, number, number + 1)
    assert len({line["user"] for line in found}) == len({line["session"] for line in found}) == 16


async def test_a_delta_costs_no_line(telemetry, lines):
    world = world_of(telemetry, *["word "] * 1000, Finish("stop"))
    await world.ask(await world.new_chat())
    found = lines()
    assert len(found) == len(LIFE)
    assert of(found, metric_names.ENDED)[0]["Deltas"] == 1000


async def test_a_cancel_is_a_line_of_its_own_with_its_latency(telemetry, lines):
    world = world_of(telemetry, "half", asyncio.Event())
    chat_id = await world.new_chat()
    client, task = await world.begin(chat_id)
    await client.has(2)
    await world.cancel(chat_id)
    await task
    await world.cancel(chat_id)
    world.ai.script = [Finish("stop")]
    other = await world.ask(chat_id)
    await world.cancel(chat_id, message_id=other.start["messageId"])
    done, nothing, too_late = of(lines(), metric_names.CANCEL)
    assert (done["outcome"], done["messageId"]) == ("Cancelled", client.start["messageId"])
    assert metrics(done) == {"CancelLatency": done["milliseconds"]}
    for line in (nothing, too_late):
        assert line["outcome"] == "NotActive"
        assert not metrics(line), "what stopped nothing says nothing about how long stopping takes"


async def test_an_answer_that_another_process_ended_is_counted_by_that_one_only(telemetry, lines):
    answer = Answer(AnswerIds("c", "m", "u", "s", "model"))
    answer.begin()
    stored = SimpleNamespace(identity=answer.identity)
    telemetry.record(AnswerStarted(answer, "alice", 1))
    telemetry.record(AnswerEnded(answer, "alice", 10))
    telemetry.record(OrphanRecovered(stored, "interrupted"))
    telemetry.record(OrphanRecovered(stored, "parked"))
    _, ended, interrupted, parked = lines()
    assert ended["status"] == "taken over"
    assert not {name for name in metrics(ended) if name.startswith("Answer")} - {"AnswerDuration"}
    assert metrics(interrupted) == {"AnswerReaped": 1, "AnswerInterrupted": 1}
    assert metrics(parked) == {"AnswerReaped": 1}


async def test_a_refused_message_says_which_limit_it_met(telemetry, lines):
    class Full(NoRateLimiter):
        async def acquire(self, *args) -> None:
            raise RateLimited("too many", 3, "minute")

    world = world_of(telemetry, limits=Full())
    with pytest.raises(RateLimited):
        await world.send(await world.new_chat())
    (line,) = lines()
    assert (line["message"], line["limit"], metrics(line)) == (metric_names.LIMITED, "minute", {"RateLimited": 1})
    assert dimensions(line) == [["service"], ["service", "limit"]]


def test_what_concerns_the_whole_process_carries_no_answers_ids(telemetry, lines):
    """The task that keeps a connection was started by some request, whose ids it has inherited."""
    with bind(requestId="r", chatId="c", messageId="m"):
        telemetry.record(FallbackTaken("redis_away"))
        telemetry.record(FallbackTaken("checkpoint_missed", "m"))
        telemetry.record(StoresProbed(Probe(1.5), Probe(None), 3))
    away, missed, probed = lines()
    for line in (away, probed):
        assert not {"requestId", "chatId", "messageId"} & set(line)
    assert (missed["requestId"], missed["messageId"]) == ("r", "m")
    assert dimensions(missed) == [["service"], ["service", "what"]]
    assert metrics(probed) == {"RedisHealthy": 1, "MysqlHealthy": 0, "RedisLatency": 1.5, "ActiveStreams": 3}


def test_without_redis_a_start_says_nothing_of_redis(telemetry, lines):
    answers = [Answer(AnswerIds("c", f"m{number}", "u", "s", "model")) for number in range(2)]
    telemetry.record(ActiveAnswersCounted(9))
    for answer in answers:
        telemetry.record(AnswerStarted(answer, "alice", 500))
    first, second = map(metrics, lines())
    assert "ActiveStreams" in first and "RedisWait" in first
    assert "ActiveStreams" not in second and "RedisWait" not in second


def everything(telemetry: LoggingTelemetry) -> None:
    """Let every event happen."""
    answers = {
        status: Answer(AnswerIds(new_id(), new_id(), new_id(), "phone", "model")) for status in metric_names.ENDS
    }
    for status, answer in answers.items():
        answer.begin()
        telemetry.record(ActiveAnswersCounted(1))
        telemetry.record(AnswerStarted(answer, "alice@example.com", 1))
        telemetry.record(FirstDeltaSent(answer, "alice@example.com", 2))
        answer.dropped = 1
        answer.outcome, answer.usage = SimpleNamespace(status=status, finish_reason=None, error_code=None), Usage(1, 2)
        telemetry.record(AnswerEnded(answer, "alice@example.com", 3))
    telemetry.record(CancelAnswered(new_id(), new_id(), "alice@example.com", "phone", "Cancelled", 4))
    telemetry.record(OrphanRecovered(SimpleNamespace(identity=answer.identity), "interrupted"))
    telemetry.record(LimitReached(new_id(), "alice@example.com", "phone", "minute"))
    telemetry.record(FallbackTaken("final_lost", new_id()))
    for rating in ("up", "down"):
        telemetry.record(FeedbackGiven(new_id(), new_id(), "alice@example.com", rating))
    telemetry.record(StoresProbed(Probe(1), Probe(2), 3))


def test_every_name_of_the_names_module_is_written_and_no_other(telemetry, lines):
    everything(telemetry)
    found = lines()
    assert {line["message"] for line in found} == set(metric_names.EVENTS)
    assert {name for line in found for name in metrics(line)} == {metric.name for metric in metric_names.METRICS}
    units = {m["Name"]: m["Unit"] for line in found for m in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert units == {metric.name: metric.unit for metric in metric_names.METRICS}


def test_no_id_is_ever_a_dimension(telemetry, lines):
    everything(telemetry)
    assert {name for line in lines() for one in dimensions(line) for name in one} == {"service", "limit", "what"}


def test_a_user_appears_under_a_keyed_pseudonym_only(capsys):
    key = Secret("k" * 32)
    outputs = []
    for user_key in (key, key, Secret("other"), None, None):
        telemetry = LoggingTelemetry(settings(user_key=user_key))
        everything(telemetry)
        outputs.append(capsys.readouterr().out)
    users = [{line["user"] for line in parse(output) if "user" in line} for output in outputs]
    assert [len(found) for found in users] == [1] * 5, "one user, one pseudonym within a process"
    assert users[0] == users[1], "the same in every process that has the key"
    assert len(set.union(*users)) == 4, "another key, or none, gives another"
    plain = hashlib.sha256(b"alice@example.com").hexdigest()
    for output in outputs:
        assert "alice" not in output
        assert plain[:12] not in output
        assert "k" * 32 not in output


def test_a_pseudonym_is_what_the_recipe_in_the_docs_computes(lines):
    telemetry = LoggingTelemetry(settings(user_key=Secret("k" * 32)))
    telemetry.record(LimitReached("c", "alice", "phone", "minute"))
    (line,) = lines()
    assert line["user"] == hmac.new(b"k" * 32, b"alice", "sha256").hexdigest()[:16]


def test_a_quiet_level_does_not_silence_what_carries_metrics(lines, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "ERROR")
    telemetry = LoggingTelemetry(settings(service="a_quiet_one", level="ERROR"))
    everything(telemetry)
    assert {line["message"] for line in lines()} == set(metric_names.EVENTS)


async def test_no_text_of_a_message_is_ever_written(telemetry, capsys, caplog):
    secret = "Meine Kontonummer ist 4711"
    scripts = (
        [secret, Finish("stop")],
        [secret, AnswerFailed(FailureCode.AI_ERROR, "detail of ours")],
        [secret, ValueError(secret)],
    )
    caplog.set_level(logging.DEBUG)
    for script in scripts:
        world = world_of(telemetry, *script)
        await world.ask(await world.new_chat(), secret)
    written = capsys.readouterr()
    assert len(of(parse(written.out), metric_names.ENDED)) == len(scripts)
    assert not [word for word in ("Meine", "Kontonummer") if word in written.out + written.err]


async def test_an_answers_ids_are_with_everything_that_happens_within_it_and_gone_afterwards(telemetry):
    seen = []

    class Curious(ScriptedAI):
        async def answer(self, turns, max_tokens, model):
            seen.append(dict(ids()))
            async for batch in super().answer(turns, max_tokens, model):
                yield batch

    world = World(MemoryChats(), ai=Curious(), telemetry=telemetry)
    client = await world.ask(await world.new_chat())
    assert seen == [{"chatId": client.start["chatId"], "messageId": client.start["messageId"]}]
    assert not ids()


def test_a_standard_output_that_is_gone_stops_nothing(telemetry, monkeypatch, capfd):
    class Closed:
        def write(self, _):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    telemetry.record(FallbackTaken("redis_away"))
    assert capfd.readouterr().err == "", "nothing but JSON is ever written, not even about that"
