"""The figures on the pages are those that `make bench` wrote down."""

import json
from pathlib import Path

import pytest

from bench import report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def found():
    return json.loads((ROOT / "docs" / "performance.json").read_text())


def between(page: str) -> str:
    return (ROOT / page).read_text().partition(report.BEGIN)[2].partition(report.END)[0].strip()


def test_the_page_has_the_tables_of_the_file(found):
    assert between("docs/performance.md") == report.of_document(found)


def test_readme_has_its_figures_of_the_file_and_names_the_machine(found):
    assert between("README.md") == report.summary(found)
    assert found["machine"] in between("README.md")


def test_each_target_that_is_missed_is_said_to_be(found):
    page = (ROOT / "docs" / "performance.md").read_text()
    assert ("**missed**" in page) == ("\n## Missed\n" in page)
