"""The built wheel in an environment of its own, under four frameworks, each streaming in its own way."""

import asyncio
import subprocess
import sys
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.packages import distributions
from lambda_stream.testing import FunctionProcess, RuntimeApi, function_url_event
from tests.kit.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("wheel")]

PACKAGE = Path(__file__).parents[1]
FRAMEWORKS = Path(__file__).with_name("frameworks.txt")
UV = (sys.executable, "-m", "uv")

# Each application sends `first`, waits until somebody has asked for /go, and sends `second`.
APPLICATIONS = {
    "starlette": """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

going = asyncio.Event()

async def parts():
    yield "first"
    await going.wait()
    yield "second"

async def stream(request):
    return StreamingResponse(parts(), media_type="text/plain")

async def go(request):
    going.set()
    return PlainTextResponse("gone")

app = Starlette(routes=[Route("/stream", stream), Route("/go", go)])
""",
    "litestar": """
import asyncio
from litestar import Litestar, get
from litestar.response import Stream

going = asyncio.Event()

async def parts():
    yield "first"
    await going.wait()
    yield "second"

@get("/stream")
async def stream() -> Stream:
    return Stream(parts(), media_type="text/plain")

@get("/go", sync_to_thread=False)
def go() -> str:
    going.set()
    return "gone"

app = Litestar([stream, go])
""",
    "django": """
import asyncio
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="none", MIDDLEWARE=[])
going = asyncio.Event()

async def parts():
    yield "first"
    await going.wait()
    yield "second"

async def stream(request):
    return StreamingHttpResponse(parts(), content_type="text/plain")

async def go(request):
    going.set()
    return HttpResponse("gone")

urlpatterns = [path("stream", stream), path("go", go)]
app = get_asgi_application()
""",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter that has the wheel and the frameworks, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = distributions(PACKAGE, folder / "dist", ["wheel"])
    python = folder / "venv" / "bin" / "python"
    run(*UV, "venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    install = (*UV, "pip", "install", "--quiet", "--python", str(python))
    run(*install, "--require-hashes", "-r", str(FRAMEWORKS))
    run(*install, "--no-deps", "--offline", str(wheel))
    return str(python)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@asynccontextmanager
async def function(python, folder, handler, concurrency):
    command = (python, "-P", "-m", "lambda_stream")
    environ = {"PYTHONPATH": "", "AWS_LAMBDA_MAX_CONCURRENCY": str(concurrency)}
    async with RuntimeApi() as api, FunctionProcess(handler, folder, environ, command).running(api) as process:
        polling = asyncio.create_task(until(lambda: api.waiting == concurrency, "it polls", seconds=30))
        ending = asyncio.create_task(process.wait())
        await asyncio.wait({polling, ending}, return_when=asyncio.FIRST_COMPLETED)
        assert process.returncode is None, (await process.communicate())[1].decode()
        ending.cancel()
        yield api


def test_the_wheel_brings_its_wrapper_and_its_types_and_needs_nothing(python):
    program = "import lambda_stream as l, pathlib; print(l.__file__); p = pathlib.Path(l.__file__).parent; "
    program += "print((p / 'bootstrap').stat().st_mode & 0o111 == 0o111, (p / 'py.typed').exists())"
    done = subprocess.run([python, "-P", "-c", program], capture_output=True, text=True, check=True, env={})
    where, modes = done.stdout.splitlines()
    assert "site-packages" in where and modes == "True True"


@pytest.mark.parametrize("framework", APPLICATIONS)
async def test_a_framework_streams_through_the_installed_wheel(python, tmp_path, framework):
    (tmp_path / "main.py").write_text(APPLICATIONS[framework])
    async with function(python, tmp_path, "main.app", concurrency=2) as api:
        answer = api.invoke(function_url_event("GET", "/stream"))
        await until(lambda: answer.chunks and answer.body == b"first", seconds=30)
        assert not answer.ended.is_set()
        go = api.invoke(function_url_event("GET", "/go"))
        await asyncio.gather(go.ended.wait(), answer.ended.wait())
        assert (answer.prelude["statusCode"], answer.body) == (200, b"firstsecond")
        assert answer.prelude["headers"]["content-type"].startswith("text/plain")
        assert go.body == b"gone"


def documented_example(folder):
    """FastAPI's example of server-sent events as its release has it: documentation is part of its sdist."""
    version = next(line.split()[0] for line in FRAMEWORKS.read_text().splitlines() if line.startswith("fastapi=="))
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:")
    run(*download, "--dest", str(folder), version)
    (sdist,) = folder.glob("fastapi-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = sorted(name for name in archive.getnames() if "docs_src/server_sent_events/tutorial001" in name)
        example = archive.extractfile(names[-1])
        assert example is not None
        return example.read()


async def test_fastapis_own_example_of_server_sent_events_runs_unchanged(python, tmp_path):
    (tmp_path / "main.py").write_bytes(documented_example(tmp_path))
    async with function(python, tmp_path, "main.app", concurrency=1) as api:
        for path in ("/items/stream", "/items/stream-no-async"):
            answer = api.invoke(function_url_event("GET", path))
            await asyncio.wait_for(answer.ended.wait(), 30)
            assert answer.prelude["headers"]["content-type"].startswith("text/event-stream")
            events = answer.body.decode().strip().split("\n\n")
            assert [event.partition('"name":"')[2].partition('"')[0] for event in events] == [
                "Plumbus",
                "Portal Gun",
                "Meeseeks Box",
            ]
            assert answer.chunks[1:] == [f"{event}\n\n".encode() for event in events], "each event is a chunk"
