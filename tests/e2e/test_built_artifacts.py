"""The artifacts as they are deployed: built here for this machine, run on AWS's emulator from nothing but themselves.

For the interpreter that runs the tests, and for Python 3.13 (`PYTHON313`, or on the path) where it is at hand.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.build import archive, build, target_python
from deploy.packages import PYTHON_VERSION, Target
from tests.kit.ai_server import AIServer
from tests.kit.rie import RieUnavailable, rie_binary, running_rie, why_not_here

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("built_artifacts")]

ROOT = Path(__file__).parents[2]
MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
OWN_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LAYER_LIMIT_BYTES = 22_000_000
ARTIFACTS = (
    "StreamChatLayer",
    "CreateChatFunction",
    "StreamChatFunction",
    "CancelStreamFunction",
    "ManageChatsFunction",
    "MigrationFunction",
)


@dataclass(frozen=True)
class Built:
    folder: Path
    python: str
    target: Target

    @property
    def layer(self) -> Path:
        return self.folder / "StreamChatLayer"

    def run(self, program: str, *more: Path, **environ: str) -> subprocess.CompletedProcess:
        """Run a program that sees the layer and nothing else of this machine's packages."""
        path = ":".join(map(str, [*more, self.layer / "python"]))
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environ}
        command = [self.python, "-S", "-c", program]
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True)


def interpreter(version: str) -> str | None:
    if version == OWN_VERSION:
        return sys.executable
    return target_python(os.environ)


@pytest.fixture(scope="module", params=sorted({OWN_VERSION, PYTHON_VERSION}))
def built(request, tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the artifacts are for Linux")
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} at hand (PYTHON313)")
    folder, target = tmp_path_factory.mktemp("built"), Target(MACHINE, request.param)
    for name in ARTIFACTS:
        build(name, folder / name, target, python)
    return Built(folder, python, target)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_second_build_is_the_same_byte_for_byte(built, tmp_path, name):
    build(name, tmp_path / "again", built.target, built.python)
    archive(built.folder / name, tmp_path / "one.zip")
    archive(tmp_path / "again", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_layer_stays_small(built, tmp_path):
    assert archive(built.layer, tmp_path / "layer.zip") < LAYER_LIMIT_BYTES


def test_nothing_in_an_artifact_is_superfluous_or_names_this_machine(built):
    here = re.compile(rf"{re.escape(str(ROOT))}|{re.escape(str(built.folder))}".encode())
    for name in ARTIFACTS:
        for path, content in files(built.folder / name).items():
            assert not here.search(content), path
            assert not re.search(r"(^|/)(tests?|testing|bin)/|\.(pyi|pyx|pxd|c|h)$|/RECORD$", path), path
    assert not (built.layer / "python" / "boto3").exists(), "the runtime has it"
    assert set(files(built.folder / "CreateChatFunction")) == {"app.py", f"__pycache__/app.{_tag(built)}.pyc"}


def _tag(built: Built) -> str:
    return built.run("import sys; print(sys.implementation.cache_tag)").stdout.strip()


def test_every_module_of_ours_and_every_library_is_imported_from_the_artifact(built):
    program = """
import importlib, pathlib, sys
layer = next(pathlib.Path(p) for p in sys.path if p.endswith("StreamChatLayer/python"))
names = [p.relative_to(layer).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
         for package in ("chat", "lambda_stream") for p in sorted((layer / package).rglob("*.py"))]
names += [p.relative_to(layer).as_posix().split(".")[0].replace("/", ".") for p in sorted(layer.rglob("*.so"))]
for name in names:
    if name.endswith("__main__") or name in ("chat.adapters.aws.parameters", "chat.adapters.telemetry.tracing"):
        continue  # what they need is in the runtime, and in a layer that brings it
    found = importlib.import_module(name)
    assert found.__file__.startswith(str(layer)), found.__file__
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(65537, 2048)
assert jwt.decode(jwt.encode({"sub": "u"}, key, "RS256"), key.public_key(), algorithms=["RS256"]) == {"sub": "u"}
print(len(names))
"""
    done = built.run(program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_compiled_code_is_what_runs(built, tmp_path):
    copy = tmp_path / "StreamChatLayer" / "python"
    shutil.copytree(built.layer / "python" / "chat", copy / "chat")
    (copy / "chat" / "errors.py").write_text("raise SystemExit('compiled anew')\n")
    done = built.run("import chat.domain.errors; print(chat.domain.errors.ChatError.code)", copy)
    assert done.stdout.strip() == "internal_error", done.stderr


def test_a_change_in_one_functions_folder_changes_that_functions_artifact_only(built, tmp_path):
    repository = tmp_path / "repository"
    for folder in ("functions", "migrations", "layers", "packages"):
        shutil.copytree(ROOT / folder, repository / folder)
    with (repository / "functions" / "cancel_stream" / "app.py").open("a") as app:
        app.write("CHANGED = True\n")
    changed = []
    for name in ARTIFACTS:
        build(name, tmp_path / name, built.target, built.python, repository)
        if files(tmp_path / name) != files(built.folder / name):
            changed.append(name)
    assert changed == ["CancelStreamFunction"]


def test_the_wrapper_can_be_executed(built):
    assert os.access(built.layer / "python" / "lambda_stream" / "bootstrap", os.X_OK)


def test_the_migration_brings_a_database_to_its_schema(built, tmp_path):
    program = "from migrations.app import handler; print(handler({}, None)['status'])"
    done = built.run(program, built.folder / "MigrationFunction", MYSQL_URL=f"sqlite:///{tmp_path / 'new.db'}")
    assert done.stdout.strip() == "ok", done.stderr


@pytest.fixture
async def ai():
    async with AIServer() as server:
        yield server


def event(name: str, chat: str = "") -> dict:
    """One of the events for `sam local invoke`, about this chat."""
    text = (ROOT / "events" / f"{name}.json").read_text()
    return json.loads(text.replace("01900000-0000-7000-8000-000000000001", chat) if chat else text)


async def test_create_stream_and_cancel_run_on_awss_emulator(built, embedded_redis, sqlite_url, ai, tmp_path):
    if reason := why_not_here():
        pytest.skip(reason)
    try:
        rie_binary()
    except RieUnavailable as error:
        pytest.fail(str(error))
    runtime = (built.python, str(ROOT / "local" / "plain_runtime.py"))  # AWS's is for its own machine
    wrapper = (str(built.layer / "python" / "lambda_stream" / "bootstrap"), built.python, "/var/runtime/bootstrap.py")
    stores = {"REDIS_URL": embedded_redis, "MYSQL_URL": sqlite_url, "OPENAI_BASE_URL": ai.url}

    def function(name: str, handler: str, command: tuple[str, ...]):
        task = built.folder / name
        path = {} if command is wrapper else {"PYTHONPATH": f"{task}:{built.layer / 'python'}"}
        return running_rie(command, task, {**stores, **path, "_HANDLER": handler}, tmp_path / f"{name}.log")

    async with (
        function("CreateChatFunction", "app.handler", runtime) as creator,
        function("StreamChatFunction", "app.app", wrapper) as streamer,
        function("CancelStreamFunction", "app.handler", runtime) as canceller,
    ):
        made = (await creator.invoke(event("create_chat"))).json()
        assert made["statusCode"] == 201, creator.log
        assert (await canceller.invoke(event("health"))).json()["statusCode"] == 200, canceller.log
        chat = json.loads(made["body"])["chatId"]
        answer = await streamer.invoke(event("stream_chat", chat))
        prelude, _, stream = answer.content.partition(b"\x00" * 8)
        assert json.loads(prelude)["statusCode"] == 200, streamer.log
        assert b'"status":"completed"' in stream
        reply = (await canceller.invoke(event("cancel_stream", chat))).json()
        assert json.loads(reply["body"])["status"] == "not_active", canceller.log
