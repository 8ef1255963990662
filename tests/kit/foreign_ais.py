"""OpenAI-compatible servers that others wrote, installed once into `.build` and run as processes of the test's own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.waiting import until_sync

_FOLDER = Path(__file__).parents[2] / ".build" / "foreign_ais"
_FROM_PYPI = ("llmock==0.2.2", "mockllm==0.0.8")
_FROM_NPM = "@copilotkit/aimock@1.43.0"
_INSTALL_SECONDS = 300


@contextmanager
def llmock() -> Iterator[str]:
    """Run llmock, which breaks answers as it is told at `/_llmock/scenario`; yield its address."""
    program = _python_packages() / "llmock"
    port = _free_port()
    with _running([program, "serve", "--port", str(port), "--log-level", "warning"], port) as url:
        yield url


@contextmanager
def mockllm(folder: Path, responses: Mapping[str, str]) -> Iterator[str]:
    """Run mockllm with these answers to these messages, sent character by character; yield its address."""
    program = _python_packages() / "uvicorn"
    path = folder / "responses.yml"
    twice = {answer: answer for answer in responses.values()}  # it looks up what it has found once more to stream it
    path.write_text(json.dumps({"responses": {**responses, **twice}}, ensure_ascii=False))
    port = _free_port()
    command = [program, "mockllm.server:app", "--port", str(port), "--log-level", "warning"]
    with _running(command, port, {"MOCKLLM_RESPONSES_FILE": str(path)}) as url:
        yield url


@contextmanager
def aimock(folder: Path, fixtures: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Run aimock with these fixtures; yield its address."""
    program = _node_package() / "llmock"
    path = folder / "fixtures.json"
    path.write_text(json.dumps({"fixtures": fixtures}))
    port = _free_port()
    with _running([program, "--port", str(port), "--fixtures", path, "--log-level", "warn"], port) as url:
        yield url


def _python_packages() -> Path:
    home = _FOLDER / "python"
    python = home / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    make = [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)]
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), *_FROM_PYPI]
    _install(home, " ".join(_FROM_PYPI), make, install)
    return home / "bin"


def _node_package() -> Path:
    home = _FOLDER / "node"
    if shutil.which("npm") is None:
        _give_up("npm is not installed")
    _install(
        home, _FROM_NPM, ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), _FROM_NPM]
    )
    return home / "node_modules" / ".bin"


def _install(home: Path, what: str, *commands: Sequence[str]) -> None:
    """Run the commands unless they have succeeded before; one process at a time."""
    home.mkdir(parents=True, exist_ok=True)
    mark = home.with_suffix(".installed")
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == what:
            return
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                _give_up(f"{what} could not be installed in {_INSTALL_SECONDS} s")
            if done.returncode:
                _give_up(f"{what} could not be installed: {done.stderr[-300:]}")
        mark.write_text(what)


def _give_up(reason: str) -> None:
    """Skip, or fail where servers were promised."""
    if os.environ.get("PROMISED_SERVERS"):
        pytest.fail(reason)
    pytest.skip(reason)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str | Path], port: int, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    everything = {**os.environ, "PYTHONPATH": "", **(environ or {})}
    with subprocess.Popen(command, env=everything, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_sync(lambda: process.poll() is not None or _listens(port), f"{command[0]} listens", seconds=60)
            assert process.poll() is None, f"{command[0]} ended by itself"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()  # one that still serves would take its time


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
