"""Code as it is deployed: ours as `make build` makes it, the hello world as SAM ships it; for this machine's Python.

Dependencies of SAM's builds come without bytecode, and where they have it, time stamps in the zip defeat it.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peer import BUILD, ROOT, Code
from deploy.build import LAMBDA_STREAM, compile_sources, install_lambda_stream
from deploy.packages import PLATFORMS, Target, installed, without_caches

_HELLO = ("fastapi", "mangum")


def ours(has_bytecode: bool) -> Code:
    """Build the layer and the functions; with bytecode that the interpreter does not check, or with none."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    assert architecture in PLATFORMS
    folder = _made_anew("ours", has_bytecode)
    source = ROOT / "layers" / "common"
    packages = installed(source / "requirements.txt", Target(architecture, python), ROOT / ".build" / "packages")
    shutil.copytree(packages, folder / "python")
    shutil.copytree(source / "chat", folder / "python" / "chat", ignore=without_caches)
    install_lambda_stream(ROOT, folder / "python")
    testing = ROOT / LAMBDA_STREAM / "src" / "lambda_stream" / "testing"  # plays snapshots
    shutil.copytree(testing, folder / "python" / "lambda_stream" / "testing", ignore=without_caches)
    shutil.copytree(ROOT / "functions", folder / "functions", ignore=without_caches)
    return _code(folder, has_bytecode)


def hello(has_bytecode: bool) -> Code:
    """Install FastAPI and Mangum, of the versions that are locked for development, and AWS's client."""
    folder = _made_anew("hello", has_bytecode)
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder / "python")]
    command += ["--python", sys.executable, "--constraint", str(_versions()), "--link-mode", "copy", *_HELLO]
    subprocess.run(command, check=True)
    return _code(folder, has_bytecode)


def _made_anew(name: str, has_bytecode: bool) -> Path:
    folder = BUILD / "built" / f"{name}-{'pyc' if has_bytecode else 'source'}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _code(folder: Path, has_bytecode: bool) -> Code:
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
    runtime = _runtime()
    if has_bytecode:
        compile_sources(folder, str(folder), sys.executable)
    # Isolated from the environment's own packages: a virtual environment's would be found with their bytecode.
    python = (str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}"), "-S", "-B")
    return Code(python, (str(folder / "python"), str(runtime)), folder / "functions")


def _runtime() -> Path:
    """Install AWS's client, with bytecode, as the managed runtime has it."""
    folder = BUILD / "built" / "runtime"
    if not folder.exists():
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder)]
        command += ["--python", sys.executable, "--constraint", str(_versions()), "--compile-bytecode", "awslambdaric"]
        subprocess.run(command, check=True)
    return folder


def _versions() -> Path:
    """Write the locked versions as constraints without hashes."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    pins = [line.rstrip(" \\") for line in lines if "==" in line]
    text = "\n".join(pins) + "\n"
    path = BUILD / f"versions-{hashlib.sha256(text.encode()).hexdigest()[:12]}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
