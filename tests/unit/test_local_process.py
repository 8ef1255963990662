import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from local import process_group_guard
from local.process import ManagedProcess, Program, StartFailed, all_ready, python, run_once
from local.process_group_guard import ProcessGroupGuard
from local.stores import answers, free_port, valkey
from tests.kit.waiting import until, until_sync

pytestmark = pytest.mark.slow


@pytest.fixture
def guard():
    with ProcessGroupGuard() as guard:
        yield guard


def program(folder, source, **more):
    return Program("worker", python("-c", source), dict(os.environ), folder, folder / "worker.log", **more)


def is_alive(pid):
    """Tell whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    except ProcessLookupError:
        return False
    return bool(status) and not status.startswith("Z")


@asynccontextmanager
async def kept_running(kept):
    task = asyncio.create_task(kept.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, StartFailed):
            await task


def pids_in(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


WRITE_PID_AND_SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


async def test_what_dies_before_it_was_ever_ready_is_given_up_with_its_last_words(tmp_path, guard):
    kept = ManagedProcess(program(tmp_path, "raise SystemExit('no such thing')"), guard, print)
    with pytest.raises(StartFailed, match=r"worker does not start: it ended with code 1: no such thing \(log: "):
        await kept.run()


async def test_what_it_said_of_its_start_is_told_rather_than_its_log(tmp_path, guard):
    kept = ManagedProcess(program(tmp_path, "print('something else')"), guard, print)
    kept.on_death = lambda: setattr(kept, "last_log_line", "KeyError: 'X'")
    with pytest.raises(StartFailed, match="ended with code 0: KeyError: 'X'"):
        await kept.run()


async def test_what_cannot_be_run_at_all_is_named(tmp_path, guard):
    nothing = Program("worker", ("/nowhere/program",), {}, tmp_path, tmp_path / "worker.log")
    with pytest.raises(StartFailed, match="worker cannot be started: No such file or directory: /nowhere/program"):
        await ManagedProcess(nothing, guard, print).run()


async def test_what_was_ready_is_started_again_each_time_it_dies(tmp_path, guard):
    reports, deaths = [], []
    kept = ManagedProcess(program(tmp_path, WRITE_PID_AND_SLEEP), guard, reports.append)
    kept.on_death = lambda: deaths.append(kept.is_running)
    async with kept_running(kept):
        for count in range(1, 4):
            # It may write its number before we have it in hand ourselves: then there is nothing to kill yet.
            await until(lambda: kept.is_running and len(pids_in(tmp_path / "worker.log")) == count)  # noqa: B023
            kept.ready.set()
            kept.kill()
        await until(lambda: len(pids_in(tmp_path / "worker.log")) == 4)
        assert len(set(pids_in(tmp_path / "worker.log"))) == 4
    assert deaths == [False] * 4
    assert len(reports) == 3 and "worker was killed (SIGKILL) and is started again" in reports[0]


async def test_what_dies_again_and_again_without_getting_ready_is_given_up(tmp_path, guard):
    reports = []
    source = (
        "from pathlib import Path; import time; p = Path('starts'); n = int(p.read_text()); p.write_text(str(n + 1))"
    )
    (tmp_path / "starts").write_text("0")
    kept = ManagedProcess(program(tmp_path, source), guard, reports.append, is_essential=False)
    with pytest.raises(StartFailed, match="worker does not start"):
        await kept.run()
    assert (tmp_path / "starts").read_text() == "5"
    assert len(reports) == 4


async def test_a_probe_says_when_it_is_ready(tmp_path, guard):
    usable = asyncio.Event()
    kept = ManagedProcess(program(tmp_path, WRITE_PID_AND_SLEEP, probe=usable.wait), guard, print)
    async with kept_running(kept):
        await until(lambda: pids_in(tmp_path / "worker.log"))
        assert not kept.ready.is_set()
        usable.set()
        await all_ready([kept])


async def test_ending_it_ends_also_what_it_started(tmp_path, guard):
    child = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WRITE_PID_AND_SLEEP!r}]);"
        + WRITE_PID_AND_SLEEP
    )
    async with kept_running(ManagedProcess(program(tmp_path, child), guard, print)):
        pids = await until(lambda: (pids := pids_in(tmp_path / "worker.log")) and len(pids) == 2 and pids)
        assert all(map(is_alive, pids))
    await until(lambda: not any(map(is_alive, pids)))


async def test_what_ignores_a_polite_request_is_killed(tmp_path, guard):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WRITE_PID_AND_SLEEP
    async with kept_running(ManagedProcess(program(tmp_path, stubborn), guard, print)):
        pids = await until(lambda: pids_in(tmp_path / "worker.log"))
    assert not is_alive(pids[0])


async def test_a_program_that_runs_once_must_succeed(tmp_path, guard):
    await run_once(program(tmp_path, "print('done')"), guard)
    assert (tmp_path / "worker.log").read_text() == "done\n"
    with pytest.raises(StartFailed, match="worker failed: not today"):
        await run_once(program(tmp_path, "raise SystemExit('not today')"), guard)


def test_the_guard_kills_what_is_left_when_we_are_killed(tmp_path):
    source = (
        "import subprocess, sys, time; from local.process_group_guard import ProcessGroupGuard;"
        "guard = ProcessGroupGuard();"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(600)'];"
        "kept, forgotten = [subprocess.Popen(sleeper, stdout=-3, start_new_session=True) for _ in range(2)];"
        "guard.watch(kept.pid); guard.watch(forgotten.pid); guard.forget(forgotten.pid);"
        "print(kept.pid, forgotten.pid, flush=True); time.sleep(600)"
    )
    root = Path(process_group_guard.__file__).parent.parent
    with subprocess.Popen(python("-c", source), stdout=subprocess.PIPE, cwd=root, text=True) as supervisor:
        kept, forgotten = map(int, supervisor.stdout.readline().split())
        os.kill(kept, signal.SIGSTOP)  # also what stands still
        supervisor.kill()
    try:
        until_sync(lambda: not is_alive(kept), "the watched process is gone")
        assert is_alive(forgotten)
    finally:
        os.kill(forgotten, signal.SIGKILL)


async def test_the_embedded_valkey_listens_on_loopback_and_keeps_nothing(tmp_path, guard):
    port = free_port()
    kept = ManagedProcess(valkey(tmp_path / "valkey", tmp_path / "valkey.log", port, dict(os.environ)), guard, print)
    async with kept_running(kept):
        await all_ready([kept])
        await answers(port, b"CONFIG GET bind\r\n", b"*2\r\n$4\r\nbind\r\n$9\r\n127.0.0.1\r\n")
        await answers(port, b"CONFIG GET save\r\n", b"*2\r\n$4\r\nsave\r\n$0\r\n")
        await answers(port, b"CONFIG GET appendonly\r\n", b"*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n")
    assert list((tmp_path / "valkey").iterdir()) == []
