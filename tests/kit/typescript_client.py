"""The TypeScript client, compiled once for each state of its sources, and put where an example finds it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.kit.node import ROOT, workshop

SOURCE = ROOT / "clients" / "typescript"


def compiler() -> Path:
    """Return a folder with TypeScript and the generator of types in its `node_modules`."""
    return workshop(SOURCE)


def package() -> Path:
    """Return the folder of the package as npm would install it."""
    tools = compiler()
    sources = sorted([*SOURCE.glob("src/*.ts"), SOURCE / "tsconfig.json", SOURCE / "package.json"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = tools / f"client-{digest}"
    with (tools / ".client.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not folder.exists():
            partial = tools / f".client-{digest}"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(SOURCE, partial, ignore=shutil.ignore_patterns("node_modules", "dist"))
            command = ["node", str(tools / "node_modules" / "typescript" / "bin" / "tsc"), "-p", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
            partial.rename(folder)
    return folder


def install(into: Path) -> None:
    """Put the package into the `node_modules` of a folder."""
    place = into / "node_modules" / "aiva-chat-client"
    if place.is_symlink() and place.resolve() == package().resolve():
        return
    partial = place.with_name(f".{place.name}-{hashlib.sha256(str(package()).encode()).hexdigest()[:8]}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(package(), target_is_directory=True)
    partial.replace(place)
