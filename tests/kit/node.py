"""Node with the npm packages of a lock file, that of `examples` if no other is named, installed once under `.build`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import uuid
from pathlib import Path

from tests.kit.browser import need, unavailable

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def workshop(packages: Path = EXAMPLES) -> Path:
    """Return a folder with the `node_modules` of `packages`, in which scripts can be put.

    It is named after the lock file's content, so that it is installed anew when that changes.
    """
    need("node", "npm")
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    if int(version[1:].split(".")[0]) < 20:
        unavailable(f"Node 20 or later; this is {version.strip()}")
    lock = (packages / "package-lock.json").read_bytes()
    folder = ROOT / ".build" / "node" / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / ".installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(packages / name, folder)
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=110)
            (folder / ".installed").touch()
    return folder


def put(folder: Path, file: Path, to: str | None = None) -> Path:
    """Copy a file into the folder and return where it is; a reader never meets half a file."""
    place = folder / (to or file.name)
    partial = folder / f".{uuid.uuid4().hex}"
    shutil.copy(file, partial)
    return partial.replace(place)


__all__ = ["EXAMPLES", "ROOT", "put", "workshop"]
