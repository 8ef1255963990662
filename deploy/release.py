"""`python -m deploy.release v0.1.0`: prints the notes of a release, or says why the tag cannot be one.

Source: Keep a Changelog 1.1.0 (headings); PEP 440 (versions).
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


class ReleaseError(Exception):
    """Tag, version and changelog do not agree; the message says which."""


def version(root: Path = ROOT) -> str:
    """Return the version of this project, from pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def notes(tag: str, root: Path = ROOT) -> str:
    """Return what CHANGELOG.md says of the version that `tag` names.

    Raises:
        ReleaseError: the tag is not `v` and pyproject.toml's version, or the changelog has no such version with a date.
    """
    if tag != f"v{version(root)}":
        raise ReleaseError(f"the tag is {tag}, the version in pyproject.toml {version(root)}")
    changelog = (root / "CHANGELOG.md").read_text()
    part = re.search(
        rf"^## \[{re.escape(tag[1:])}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|^\[|\Z)", changelog, re.M | re.S
    )
    if part is None or not part[1].strip():
        raise ReleaseError(f"CHANGELOG.md has no part `## [{tag[1:]}] - YYYY-MM-DD`")
    return part[1].strip() + "\n"


def main() -> int:
    """Print the notes; return the exit code."""
    try:
        print(notes(sys.argv[1]), end="")
    except (ReleaseError, IndexError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
