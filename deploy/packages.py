"""The dependencies of an artifact: wheels for the target, checked against the locked hashes, with nothing superfluous.

They are taken for the target's Python and C library, not for this machine's, so no container is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PYTHON_VERSION = "3.13"
PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
"""Lambda's names and the wheels that run there.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html (python3.13 is Amazon Linux 2023, glibc 2.34).
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What an artifact is built for; tests also build for the machine that they run on."""

    architecture: str = "arm64"
    python: str = PYTHON_VERSION


_NEEDLESS_FOLDERS = ("bin", "__pycache__", "tests", "test", "testing")
_NEEDLESS_PARTS = (
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/[!_pj]*",  # kept: parameters and what it imports
    "aws_lambda_powertools/utilities/parser",
    "cffi",  # a compiler; cryptography needs only its module _cffi_backend
    "cffi-*.dist-info",
    "pycparser",
    "pycparser-*.dist-info",
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/oracle",
)
_NEEDLESS_ENDINGS = (".pyi", ".pyx", ".pxd", ".c", ".h")
_KEPT_METADATA = ("METADATA", "entry_points.txt", "licenses", "LICENSE", "LICENSE.txt", "LICENSE.rst")


def installed(requirements: Path, target: Target, store: Path, without: Path | None = None) -> Path:
    """Return a folder with the packages of a locked requirements file, made at most once for the same content.

    Packages that are also in the file `without` are left out.

    Raises:
        subprocess.CalledProcessError: a hash is wrong, or there is no wheel for the target.
    """
    locked = _lines_of(requirements)
    if without is not None:
        locked = [entry for entry in locked if _name_of(entry) not in set(map(_name_of, _lines_of(without)))]
    text = "\n".join(locked) + "\n"
    key = hashlib.sha256(f"{target} {Path(__file__).read_text()} {text}".encode()).hexdigest()
    folder = store / key[:16]
    if not folder.exists():
        _install(text, target, folder)
    return folder


def _install(locked: str, target: Target, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))  # two builds may be at it
    unfinished.chmod(0o755)
    listing = unfinished.with_name(f"{unfinished.name}.txt")
    listing.write_text(locked)
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(unfinished)]
    command += ["--python-version", target.python, "--python-platform", PLATFORMS[target.architecture]]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-deps", "--link-mode", "copy", "-r", str(listing)]
    subprocess.run(command, check=True)  # noqa: S603  # all of it is ours
    strip(unfinished)
    listing.unlink()
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(unfinished)  # the other build was quicker


def distributions(source: Path, folder: Path, kinds: Iterable[str] = ("wheel", "sdist")) -> list[Path]:
    """Build a project of our own with hatchling into a folder, byte for byte the same each time; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    name = tomllib.loads((source / "pyproject.toml").read_text())["project"]["name"].replace("-", "_")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder.resolve())]
    command += [part for kind in kinds for part in ("--target", kind)]
    environ = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(command, cwd=source, env=environ, check=True, capture_output=True)  # noqa: S603  # all of it is ours
    return sorted(path for path in folder.glob(f"{name}-*") if path.name.endswith((".whl", ".tar.gz")))


def unpack(wheel: Path, folder: Path) -> None:
    """Put the content of a wheel without entry points into a folder, as an installer does, stripped like all others."""
    unpacked = folder.with_name(f"{folder.name}.wheel")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, unpacked))
            if entry.external_attr >> 16:
                path.chmod(entry.external_attr >> 16 & 0o777)
    strip(unpacked)
    shutil.copytree(unpacked, folder, dirs_exist_ok=True)
    shutil.rmtree(unpacked)


def strip(folder: Path) -> None:
    """Remove what no function needs: tests, other parts, sources and debug symbols of extensions, installer's notes."""
    for part in _NEEDLESS_PARTS:
        for path in list(folder.glob(part)):
            _remove(path)
    for library in folder.rglob("*.so"):
        library.write_bytes(strip_elf(library.read_bytes()))
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.name in _NEEDLESS_FOLDERS:
            shutil.rmtree(path)
        elif path.is_file() and (path.suffix in _NEEDLESS_ENDINGS or path.name == ".lock"):
            path.unlink()
    for metadata in folder.glob("*.dist-info"):
        for path in metadata.iterdir():
            if path.name not in _KEPT_METADATA:
                _remove(path)


def strip_elf(library: bytes) -> bytes:
    """Return a shared library without what no loader reads: debug sections, symbol tables, section headers.

    What follows the last segment is cut, and the file header no longer points there.
    Source: ELF-64 Object File Format, version 1.5, sections 2, 3 and 6.
    """
    if library[:6] != b"\x7fELF\x02\x01":
        return library
    headers_at, entry_size, count = (*struct.unpack_from("<Q", library, 32), *struct.unpack_from("<HH", library, 54))
    end = headers_at + entry_size * count
    for at in range(headers_at, end, entry_size):
        offset, size = struct.unpack_from("<Q", library, at + 8)[0], struct.unpack_from("<Q", library, at + 32)[0]
        end = max(end, offset + size)
    head = bytearray(library[:end])
    struct.pack_into("<Q", head, 40, 0)  # no section headers: no offset,
    struct.pack_into("<HH", head, 60, 0, 0)  # none of them, and no table of their names
    return bytes(head)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lines_of(requirements: Path) -> list[str]:
    """Return one entry for each package: its line with the hashes that continue it."""
    joined = requirements.read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _name_of(entry: str) -> str:
    return entry.partition("==")[0].strip().lower()


def without_caches(_folder: str, names: Iterable[str]) -> set[str]:
    """Say for `shutil.copytree` what of our own folders is no source."""
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc") or name.startswith(".")}
