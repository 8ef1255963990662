"""The whole service as `make run` starts it: real processes, a free port, a state folder of its own; leaves nothing.

    with running({"CHAT_MAX_CONTENT_CHARS": "10"}) as service:
        httpx.get(f"{service.url}/health")

Settings of the environment that the tests run in are not passed on: without overrides stores and AI are the embedded
ones. `functions` names a folder with other functions than the real ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.process_group_guard import ProcessGroupGuard
from tests.kit.waiting import until_sync

ROOT = Path(__file__).resolve().parent.parent.parent
STUB_FUNCTIONS = Path(__file__).parent / "functions"

_OURS = re.compile(r"(CHAT_|OPENAI_|AWS_|LAMBDA_|_HANDLER|REDIS_|MYSQL_|PORT$|PYTHONPATH$|MAKE|MFLAGS)")
_MARK = "CHAT_TEST_RUN"


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen[str]
    state: Path
    mark: str

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return (self.state / "stderr").read_text()

    def log(self, program: str) -> str:
        """Return what a program has logged: a function's name, `valkey`, `demo_model`, `migrations` or `gateway`."""
        return (self.state / "logs" / f"{program}.log").read_text()

    def pids(self, part: str = "") -> list[int]:
        """Return its processes, or those whose command line contains `part`; Linux only."""
        return processes(self.state, self.mark, part)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def running(
    overrides: Mapping[str, str] | None = None, functions: Path | None = None, state: Path | None = None
) -> Iterator[Service]:
    """Start the service and yield it when it is ready; afterwards everything of it is gone.

    Raises:
        AssertionError: it did not get ready, with what it said; or something outlived it.
    """
    with tempfile.TemporaryDirectory(prefix="chat-") as temporary, ProcessGroupGuard() as guard:
        folder = state or Path(temporary)
        mark = uuid.uuid4().hex
        with started(folder, mark, overrides, functions) as process:
            guard.watch(process.pid)  # should the tests be killed
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "stderr").read_text()
            service = Service(line.split()[3], process, folder, mark)
            try:
                yield service
            finally:
                _end(process)
                until_sync(lambda: not service.pids(), "nothing is left of the service")


def clean_environ() -> dict[str, str]:
    """Return the environment without any setting of the service, but for a free port."""
    return {name: value for name, value in os.environ.items() if not _OURS.match(name)} | {"PORT": "0"}


@contextmanager
def started(
    folder: Path, mark: str = "", overrides: Mapping[str, str] | None = None, functions: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start the command, ready or not; standard error goes to the file `stderr` in `folder`."""
    environ = (
        clean_environ()
        | {"PYTHONPATH": "layers/common:packages/lambda-stream/src", _MARK: mark}
        | dict(overrides or {})
    )
    command = [sys.executable, "-m", "local", "--state", str(folder)]
    command += ["--functions", str(functions)] if functions else []
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def processes(folder: Path, mark: str, part: str = "") -> list[int]:
    """Return the living processes that were started with `mark`, or in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, where = (process / "environ").read_bytes(), (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # gone meanwhile, or a zombie
            continue
        if (f"{_MARK}={mark}".encode() in environ or where.is_relative_to(folder)) and part in command:
            found.append(int(process.name))
    return found
