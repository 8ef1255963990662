"""The ASGI lifespan protocol."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette

from lambda_stream._errors import InitError
from lambda_stream._lifespan import Lifespan
from lambda_stream._log import configure

configure()


async def test_startup_and_shutdown_run_once_in_the_same_task_and_fill_the_state():
    seen: list[object] = []

    @asynccontextmanager
    async def resources(_):
        task = asyncio.current_task()
        seen.append("open")
        yield {"pool": 7}
        seen.append(asyncio.current_task() is task)

    lifespan = Lifespan(Starlette(lifespan=resources))
    await lifespan.startup()
    assert (seen, lifespan.state) == (["open"], {"pool": 7})
    await lifespan.shutdown(5)
    assert seen == ["open", True]


async def test_an_application_without_a_lifespan_is_fine(capsys):
    async def application(scope, receive, send):
        raise NotImplementedError

    lifespan = Lifespan(application)
    await lifespan.startup()
    await lifespan.shutdown(5)
    assert json.loads(capsys.readouterr().err)["level"] == "INFO"


async def test_an_application_that_returns_from_its_lifespan_at_once_is_fine():
    async def application(scope, receive, send):
        assert scope["type"] == "lifespan"

    lifespan = Lifespan(application)
    await lifespan.startup()
    await lifespan.shutdown(5)


async def test_a_failed_startup_is_an_init_error_that_says_in_one_line_what_is_wrong():
    @asynccontextmanager
    async def resources(_):
        raise ValueError("REDIS_URL is not set")
        yield

    with pytest.raises(InitError, match=r"^ValueError: REDIS_URL is not set$") as caught:
        await Lifespan(Starlette(lifespan=resources)).startup()
    assert caught.value.error_type == "Function.StartupFailed"
    assert "Traceback" in caught.value.details


async def test_a_failed_startup_without_a_message_is_one_too():
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(InitError, match="startup failed"):
        await Lifespan(application).startup()


async def test_a_failed_shutdown_is_logged(capsys):
    @asynccontextmanager
    async def resources(_):
        yield
        raise ValueError("cannot close")

    lifespan = Lifespan(Starlette(lifespan=resources))
    await lifespan.startup()
    await lifespan.shutdown(5)
    assert "cannot close" in json.loads(capsys.readouterr().err)["message"]


async def test_a_shutdown_that_hangs_is_given_up(capsys):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()

    lifespan = Lifespan(application)
    await lifespan.startup()
    await lifespan.shutdown(0.05)
    assert "did not shut down" in json.loads(capsys.readouterr().err)["message"]


async def test_a_lifespan_that_breaks_while_the_application_runs_does_not_hang_the_shutdown():
    broken = asyncio.Event()

    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await broken.wait()
        raise ValueError

    lifespan = Lifespan(application)
    await lifespan.startup()
    broken.set()
    await lifespan.shutdown(5)
    await lifespan.shutdown(5)
