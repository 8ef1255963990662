"""What is delivered on its own: a function with the layer that it pins. Also tells which of them a change concerns."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Unit:
    """One function; all of its resources in the template carry `prefix`, and nothing else does."""

    name: str
    prefix: str
    folder: str

    @property
    def code(self) -> tuple[tuple[str, str], ...]:
        """Where its code stands in the template: logical id and property."""
        function = [(f"{self.prefix}Function", "CodeUri"), (f"{self.prefix}Layer", "ContentUri")]
        return (*function, ("StreamChatInstancesFunction", "CodeUri")) if self.name == "stream_chat" else (*function,)


UNITS = (
    Unit("migrations", "Migration", "migrations"),
    Unit("create_chat", "CreateChat", "functions/create_chat"),
    Unit("cancel_stream", "CancelStream", "functions/cancel_stream"),
    Unit("stream_chat", "StreamChat", "functions/stream_chat"),
)
"""In the order of delivery: what is added to the schema is there before the code that uses it, and the function in
which a defect hurts most comes last."""

_EVERYWHERE = (
    "layers/common/",
    "packages/lambda-stream/src/",
    "packages/lambda-stream/README.md",  # part of the wheel, as its pyproject.toml and licence are
    "packages/lambda-stream/pyproject.toml",
    "packages/lambda-stream/LICENSE",
    "deploy/build.py",
    "deploy/packages.py",
    "Makefile",
)
"""A change here can change every artifact."""


def unit_named(name: str) -> Unit:
    """Return the unit with this name.

    Raises:
        LookupError: there is none.
    """
    for unit in UNITS:
        if unit.name == name:
            return unit
    raise LookupError(f"no unit is called {name!r}: {', '.join(unit.name for unit in UNITS)}")


def changed_units(paths: Iterable[str]) -> list[str]:
    """Return the names of the units that a change of these files concerns, in the order of delivery.

    `stack` stands for the template itself and comes first.
    """
    found = list(paths)
    everywhere = any(path.startswith(_EVERYWHERE) for path in found)
    concerned = [
        unit.name for unit in UNITS if everywhere or any(Path(path).is_relative_to(unit.folder) for path in found)
    ]
    return ["stack", *concerned] if "template.yaml" in found else concerned


def main() -> None:
    """Read changed paths from standard input, one a line, and print the units as JSON."""
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    print(json.dumps(changed_units(line.strip() for line in sys.stdin)))


if __name__ == "__main__":
    main()
