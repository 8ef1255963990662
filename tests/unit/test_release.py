"""A tag, the version and the changelog agree, or there is no release."""

from pathlib import Path

import pytest

from deploy.release import ReleaseError, notes, version
from openapi.document import document

CHANGELOG = """# Changelog

## [Unreleased]

- soon

## [1.2.0] - 2026-11-27

### Added

- this

## [1.1.0] - 2026-11-01
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_the_notes_are_the_versions_part_of_the_changelog(project):
    assert notes("v1.2.0", project) == "### Added\n\n- this\n"


@pytest.mark.parametrize("tag", ["1.2.0", "v1.1.0", "v1.2.0rc1", ""])
def test_a_tag_that_is_not_the_version_is_refused(project, tag):
    with pytest.raises(ReleaseError):
        notes(tag, project)


@pytest.mark.parametrize("heading", ["## [1.2.0]", "## 1.2.0 - 2026-11-27", "## [1.2.1] - 2026-11-27"])
def test_a_version_without_a_dated_part_is_refused(project, heading):
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("## [1.2.0] - 2026-11-27", heading))
    with pytest.raises(ReleaseError):
        notes("v1.2.0", project)


def test_there_is_one_version():
    assert document()["info"]["version"] == version()
