"""The list that `make mutants` works through: of this code, and the one that docs/guarantees.md shows."""

import re
from pathlib import Path

import pytest

from tests.mutants.mechanisms import MUTANTS
from tests.unit.test_guarantees import defined

ROOT = Path(__file__).parents[2]
NAMES = [mutant.mechanism for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_what_is_to_be_taken_out_stands_exactly_once_in_the_code(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_its_test_exists(mutant):
    path, _, name = mutant.test.partition("::")
    assert name in defined(ROOT / path)


def test_the_page_shows_the_list():
    page = (ROOT / "docs" / "guarantees.md").read_text()
    rows = re.findall(r"^\| (.+?) \| `(tests/[^`]+)` \|$", page, re.M)
    assert rows == [(mutant.mechanism, mutant.test) for mutant in MUTANTS]
