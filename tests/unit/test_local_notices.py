"""What a function logs for an operator reaches the terminal of `make run`, once."""

import asyncio
import json
from pathlib import Path

from local.notices import LogTail, reporting_notices

NOTICE = json.dumps({"level": "ERROR", "message": "check OPENAI_API_KEY", "notice": True}).encode()


def test_only_whole_lines_that_are_notices_are_read_and_each_once(tmp_path: Path):
    log = tmp_path / "function.log"
    tail = LogTail(log)
    assert list(tail.notices()) == [], "there is no file yet"
    other = json.dumps({"message": "answer ended", "detail": '"notice"'}).encode()
    log.write_bytes(other + b"\n" + b'not JSON, but "notice"\n' + b'["notice"]\n' + NOTICE[:10])
    assert list(tail.notices()) == []
    with log.open("ab") as file:
        file.write(NOTICE[10:] + b"\n")
    assert list(tail.notices()) == ["check OPENAI_API_KEY"]
    assert list(tail.notices()) == []


async def test_the_same_notice_of_two_processes_is_reported_once(tmp_path: Path):
    reported: asyncio.Queue[str] = asyncio.Queue()
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    async with reporting_notices(logs, reported.put_nowait):
        for log in logs:
            log.write_bytes(NOTICE + b"\n")
        last = json.dumps({"message": "the last", "notice": True}).encode()
        assert await reported.get() == "check OPENAI_API_KEY"
        logs[1].write_bytes(NOTICE + b"\n" + last + b"\n")
        assert await reported.get() == "the last"
