"""Builds artifacts without a container: the layer that each function pins, and the functions, byte for byte the same
each time.

    python -m deploy.build CreateChatFunction FOLDER    one artifact, as `sam build` asks for it
    python -m deploy.build --all FOLDER                 all of them, zipped, and the packages that are published
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy.packages import PLATFORMS, PYTHON_VERSION, Target, distributions, installed, unpack, without_caches
from deploy.units import UNITS, Unit

ROOT = Path(__file__).parents[1]
STORE = ROOT / ".build" / "packages"
LAMBDA_STREAM = Path("packages", "lambda-stream")
CLIENT = Path("clients", "python")
OLDEST = 315_619_200
"""2 January 1980: what a zip can hold in any time zone."""

_COMPILE = """
import compileall, py_compile, sys
folder, shown_as = sys.argv[1:]
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
sys.exit(not compileall.compile_dir(folder, quiet=1, stripdir=folder, prependdir=shown_as, invalidation_mode=mode))
"""


def target_python(environ: Mapping[str, str], version: str = PYTHON_VERSION) -> str | None:
    """Return an interpreter of the target's version: `PYTHON313`, or the one on the path; None without either.

    Raises:
        ValueError: `PYTHON313` names something else.
    """
    named = environ.get("PYTHON313")
    command = named or shutil.which(f"python{version}", path=environ.get("PATH"))
    if command is None:
        return None
    probe = [command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(probe, capture_output=True, text=True, check=False)  # noqa: S603  # the caller names it
    if answer.stdout.strip() == version:
        return command
    if named:
        raise ValueError(f"PYTHON313 is no Python {version}: {named}")
    return None


def build(logical_id: str, folder: Path, target: Target, compiler: str | None, root: Path = ROOT) -> None:
    """Build one artifact of the template into a folder, which is made anew, from the sources below `root`.

    Raises:
        LookupError: the template has no such artifact.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unit = next((unit for unit in UNITS if logical_id.startswith(unit.prefix)), None)
    if unit is None or logical_id not in {name for name, _ in unit.code}:
        raise LookupError(f"{logical_id} is no artifact of the template")
    if logical_id.endswith("Layer"):
        _build_layer(root, folder, target)
        compile_sources(folder, "/opt", compiler)
    else:
        _build_function(unit, root, folder, target)
        compile_sources(folder, "/var/task", compiler)
    normalize(folder)


def _build_layer(root: Path, folder: Path, target: Target) -> None:
    source, python = root / "layers" / "common", folder / "python"
    shutil.copytree(installed(source / "requirements.txt", target, STORE), python)
    shutil.copytree(source / "chat", python / "chat", ignore=without_caches)
    install_lambda_stream(root, python)
    shutil.copy(source / "rds-ca.pem", folder / "rds-ca.pem")


def install_lambda_stream(root: Path, folder: Path) -> None:
    """Put the wheel's content into a folder of packages."""
    with tempfile.TemporaryDirectory() as place:
        (wheel,) = distributions(root / LAMBDA_STREAM, Path(place), ["wheel"])
        unpack(wheel, folder)


def _build_function(unit: Unit, root: Path, folder: Path, target: Target) -> None:
    source = root / unit.folder
    if unit.name != "migrations":
        shutil.copytree(source, folder, ignore=without_caches, dirs_exist_ok=True)
        return
    common = root / "layers" / "common" / "requirements.txt"
    packages = installed(source / "requirements.txt", target, STORE, without=common)
    shutil.copytree(packages, folder, dirs_exist_ok=True)
    shutil.copytree(source, folder / "migrations", ignore=without_caches)
    for listing in (folder / "migrations").glob("requirements.*"):
        listing.unlink()


def compile_sources(folder: Path, shown_as: str, compiler: str | None) -> None:
    """Compile so that nothing in the result names this machine, and the runtime never looks at a time stamp."""
    if compiler is None:
        return
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"}
    command = [compiler, "-P", "-s", "-c", _COMPILE, str(folder), shown_as]
    subprocess.run(command, check=True, env=environ)  # noqa: S603  # the target's interpreter


def normalize(folder: Path) -> None:
    """Give every file the same time, and a mode that depends on nothing but whether it can be executed."""
    for path in [folder, *folder.rglob("*")]:
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (OLDEST, OLDEST))


def archive(folder: Path, target: Path) -> int:
    """Zip a folder in sorted order and return the size in bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = path.stat().st_mode << 16
            zipped.writestr(entry, path.read_bytes())
    return target.stat().st_size


def build_all(folder: Path, target: Target, compiler: str | None) -> None:
    """Build and zip the layer (the same for each function) and all functions; wheels and sdists of our packages."""
    for logical_id in ["StreamChatLayer", *(f"{unit.prefix}Function" for unit in UNITS)]:
        build(logical_id, folder / logical_id, target, compiler)
        size = archive(folder / logical_id, folder / f"{logical_id}.zip")
        print(f"{logical_id + '.zip':<32}{size:>12,} bytes")
    for package in (LAMBDA_STREAM, CLIENT):
        for path in distributions(ROOT / package, folder):
            print(f"{path.name:<48}{path.stat().st_size:>12,} bytes")


def main() -> None:
    """Build as the command line says; `ARCHITECTURE` must be that of the template's parameter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", help="a logical id, or --all", nargs="?")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--architecture", default=os.environ.get("ARCHITECTURE") or "arm64", choices=sorted(PLATFORMS))
    arguments = parser.parse_args()
    target = Target(arguments.architecture)
    compiler = target_python(os.environ)
    if compiler is None:
        how = f"put python{target.python} on the path or name it in PYTHON313"
        print(f"no Python {target.python} here: built without .pyc files, cold starts will be slower ({how})")
    if arguments.all:
        build_all(arguments.folder, target, compiler)
    else:
        build(arguments.artifact or parser.error("which artifact?"), arguments.folder, target, compiler)


if __name__ == "__main__":
    main()
