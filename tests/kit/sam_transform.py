"""SAM's own transform of template.yaml, which decides what versions are published. `make lint-deploy` brings it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.units import UNITS
from tests.kit.cloudformation import TEMPLATE

SAM = Path(__file__).parents[2] / ".build" / "sam" / "bin" / "python"
_PROGRAM = """
import json, sys
from samtranslator.translator.transform import transform
class Policies:
    def load(self):
        return {}
json.dump([transform(template, parameters, Policies()) for template, parameters in json.load(sys.stdin)], sys.stdout)
"""


def with_code_at(template: dict[str, Any], elsewhere: str | None = None) -> dict[str, Any]:
    """Return the template as `sam package` leaves it; the code of `elsewhere` lies at a new place."""
    result = copy.deepcopy(template)
    for unit in UNITS:
        for name, place in unit.code:
            result["Resources"][name]["Properties"][place] = f"s3://bucket/{'new' if name == elsewhere else 'old'}"
    return result


def transform(jobs: Sequence[tuple[dict[str, Any], dict[str, str]]]) -> list[dict[str, Any]]:
    """Return what CloudFormation would get of each template with its parameters, all in one process."""
    if not SAM.exists():
        pytest.skip("SAM is not at hand: make lint-deploy brings it")
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-west-1"}
    command = [str(SAM), "-W", "ignore", "-c", _PROGRAM]
    done = subprocess.run(command, input=json.dumps(list(jobs)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def packaged(elsewhere: str | None = None) -> dict[str, Any]:
    """Return template.yaml as `sam package` leaves it."""
    return with_code_at(TEMPLATE, elsewhere)
