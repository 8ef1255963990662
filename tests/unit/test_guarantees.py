"""Every test that docs/guarantees.md names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", (ROOT / "docs" / "guarantees.md").read_text())


def defined(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if hasattr(inner, "name")}
        elif hasattr(node, "name"):
            found.add(node.name)
    return found


def test_the_page_names_tests():
    assert len(NAMED) > 20


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str):
    assert name in defined(ROOT / path)
