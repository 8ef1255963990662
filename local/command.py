"""`make run`: everything on one address, with one line when it is ready and one line when it cannot be."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from chat.settings import SettingsError
from local.plan import Plan, read_plan
from local.process import StartFailed
from local.server import listen, port_of
from local.service import Terminal, serve

_ROOT = Path(__file__).resolve().parent.parent


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code."""
    options = _read(arguments)
    os.umask(0o077)  # chats, logs and sockets are this user's alone
    try:
        plan = read_plan(environ, _ROOT, options.functions, options.state)
        with _listener(plan.port) as listener:
            asyncio.run(_serve(plan, listener))
    except (SettingsError, StartFailed) as error:
        _report(str(error))
        return 1
    except OSError as error:  # a folder that cannot be written, no more file descriptors
        _report(str(error))
        return 1
    return 0


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description="The whole chat service on this machine.")
    parser.add_argument("--functions", type=Path, default=_ROOT / "functions", help="folder of the three functions")
    parser.add_argument("--state", type=Path, default=_ROOT / ".local", help="folder for data and logs")
    return parser.parse_args(arguments)


def _listener(port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartFailed(f"port {port} is in use already; choose another one: PORT={port + 1} make run") from None
        raise StartFailed(f"port {port} cannot be opened: {error.strerror}") from None


async def _serve(plan: Plan, listener: socket.socket) -> None:
    serving = asyncio.create_task(serve(plan, listener, Terminal(lambda: _announce(port_of(listener)), _report)))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(name, _stop, serving)
    await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


def _stop(serving: asyncio.Task[None]) -> None:
    if not serving.cancelling():  # an impatient second Ctrl-C must not disturb what ends the processes
        serving.cancel()


def _announce(port: int) -> None:
    print(f"Chat service on http://localhost:{port}  (Ctrl-C stops it)", flush=True)


def _report(line: str) -> None:
    print(f"make run: {line}", file=sys.stderr, flush=True)
