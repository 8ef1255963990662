"""The lines that loggers write, ours and those of libraries."""

import asyncio
import gc
import json
import logging
import warnings

import pytest

from chat.adapters.telemetry.logs import log_everything
from chat.log_context import bind
from chat.settings import Settings, SettingsError, TelemetrySettings
from tests.kit.log_lines import parse

SECRET = "my message, mysql://user:hunter2@host/db"


@pytest.fixture
def log(capsys):
    """Start logging as a function does; afterwards put everything back. Returns what has been written."""
    root, ours = logging.getLogger(), logging.getLogger("chat")
    kept = root.handlers[:], root.level, ours.level

    def start(level: str = "INFO"):
        log_everything(TelemetrySettings("stream_chat", "tests", level))
        return lambda: parse(capsys.readouterr().out)

    yield start
    logging.captureWarnings(False)
    root.handlers[:], root.level, ours.level = kept
    root.setLevel(kept[1])
    ours.setLevel(kept[2])


def test_our_modules_lines_carry_what_is_attached_and_the_ids_of_their_task(log):
    lines = log()
    with bind(requestId="r-1", messageId="m-1"):
        logging.getLogger("chat.adapters.llm.retries").info("the AI is asked %s", "again", extra={"code": "ai_timeout"})
    (line,) = lines()
    expected = {"level": "INFO", "message": "the AI is asked again", "code": "ai_timeout", "service": "stream_chat"}
    assert expected.items() <= line.items()
    assert (line["requestId"], line["messageId"], line["logger"]) == ("r-1", "m-1", "chat.adapters.llm.retries")


@pytest.mark.parametrize(("level", "written"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1)])
def test_the_set_level_is_that_of_our_modules(log, level, written):
    lines = log(level)
    for say in ("debug", "info", "warning"):
        getattr(logging.getLogger("chat.application.run_answer"), say)("said")
    assert len(lines()) == written


@pytest.mark.parametrize("library", ["mangum.http", "httpx", "httpcore.connection", "sqlalchemy.pool", "asyncio"])
def test_libraries_are_heard_from_warning_on_and_only_the_begin_of_what_they_say(log, library):
    lines = log("DEBUG")
    logger = logging.getLogger(library)
    logger.debug("connect %s", SECRET)
    logger.info("HTTP Request: POST %s", SECRET)
    logger.warning("pool is full\n%s", SECRET, extra={"statement": SECRET})
    logger.error("x" * 5000)
    first, second = lines()
    assert (first["message"], first["level"]) == ("pool is full", "WARNING")
    assert len(second["message"]) == 200
    assert "hunter2" not in json.dumps([first, second])


def test_an_error_is_told_by_its_kind_and_place_never_in_its_words(log):
    lines = log()
    for name in ("chat.http.problems", "sqlalchemy.pool"):
        try:
            try:
                raise KeyError(SECRET)
            except KeyError as error:
                raise ValueError(SECRET) from error
        except ValueError as error:
            error.add_note(SECRET)
            logging.getLogger(name).exception("it failed")
    for line in lines():
        assert line["exception"].startswith("ValueError at test_telemetry_logs.py:")
        assert " caused by KeyError at " in line["exception"]
        assert line["exception_name"] == "ValueError"
        assert "hunter2" not in json.dumps(line)


async def test_an_exception_that_nobody_awaited_is_not_quoted(log):
    lines = log()

    async def fail() -> None:
        raise ValueError(SECRET)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    (line,) = lines()
    assert (line["message"], line["logger"]) == ("Task exception was never retrieved", "asyncio")
    assert line["exception_name"] == "ValueError"
    assert "hunter2" not in json.dumps(line)


def test_pythons_warnings_are_lines_too(log):
    lines = log()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert (line["logger"], line["level"]) == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old" in line["message"]


def test_handlers_that_were_there_are_replaced_so_that_no_line_comes_twice(log, capsys):
    logging.getLogger().addHandler(logging.StreamHandler())
    lines = log()
    logging.getLogger("chat.x").warning("once")
    logging.getLogger("library").warning("once")
    captured = capsys.readouterr()
    assert [line["message"] for line in parse(captured.out)] == ["once", "once"]
    assert captured.err == ""
    assert not lines()


def test_a_message_is_a_string_whatever_it_looks_like_and_any_text_can_be_written(log):
    lines = log()
    logging.getLogger("chat.x").info('{"level": "forged"}')
    logging.getLogger("chat.x").info("half a pair \ud83d, 안녕\u2028line")
    forged, strange = lines()
    assert (forged["message"], forged["level"]) == ('{"level": "forged"}', "INFO")
    assert strange["message"] == "half a pair \ud83d, 안녕\u2028line"


BASE = {"REDIS_URL": "redis://localhost", "MYSQL_URL": "sqlite:///chat"}


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, "INFO"),
        ({"POWERTOOLS_LOG_LEVEL": "debug"}, "DEBUG"),
        ({"POWERTOOLS_LOG_LEVEL": "WARN"}, "WARNING"),
        ({"AWS_LAMBDA_LOG_LEVEL": "FATAL", "POWERTOOLS_LOG_LEVEL": "DEBUG"}, "CRITICAL"),
        ({"AWS_LAMBDA_LOG_LEVEL": "TRACE"}, "DEBUG"),
        ({"AWS_LAMBDA_LOG_LEVEL": "INFO", "POWERTOOLS_LOG_LEVEL": "ERROR"}, "ERROR"),
    ],
)
def test_of_the_platforms_level_and_ours_the_stricter_one_holds(environ, level):
    assert Settings.read(BASE | environ).telemetry.level == level


@pytest.mark.parametrize("name", ["AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL"])
def test_an_unknown_level_is_refused_by_name(name):
    with pytest.raises(SettingsError, match=name):
        Settings.read(BASE | {name: "LOUD"})


def test_the_service_is_named_by_powertools_variable_else_by_the_function():
    both = {"POWERTOOLS_SERVICE_NAME": "stream_chat", "AWS_LAMBDA_FUNCTION_NAME": "stack-Stream-1"}
    assert Settings.read(BASE | both).telemetry.service == "stream_chat"
    del both["POWERTOOLS_SERVICE_NAME"]
    assert Settings.read(BASE | both).telemetry.service == "stack-Stream-1"


def test_the_key_of_the_pseudonyms_is_a_secret():
    settings = Settings.read(BASE | {"CHAT_USER_HASH_KEY": "hunter2" * 5})
    assert "hunter2" not in repr(settings)
    assert settings.telemetry.user_key is not None
    assert settings.telemetry.user_key.reveal() == "hunter2" * 5
