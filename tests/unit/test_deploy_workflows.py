"""The workflows say what deploy/ and docs/deploy.md promise; their syntax is linted by `make lint-deploy`."""

import json
import re
from pathlib import Path

import yaml

from deploy.units import UNITS

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
CHECKS, DEPLOY = (yaml.safe_load((FOLDER / f"{name}.yml").read_text()) for name in ("checks", "deploy"))
TEXT = (FOLDER / "deploy.yml").read_text()
JOBS = DEPLOY["jobs"]


def test_everything_can_be_asked_for_by_hand_in_the_order_of_delivery():
    asked = json.loads(DEPLOY[True]["workflow_dispatch"]["inputs"]["units"]["default"])
    assert asked == [unit.name for unit in UNITS]


def test_nothing_is_delivered_before_the_checks_have_passed():
    def before(job):
        needs = JOBS[job].get("needs", [])
        return set(needs).union(*(before(name) for name in needs))

    assert all("checks" in before(job) for job in ("package", "stack", "deliver"))


def test_one_function_at_a_time_and_none_after_one_that_failed():
    assert JOBS["deliver"]["strategy"]["max-parallel"] == 1
    assert JOBS["deliver"]["strategy"]["fail-fast"] is True
    assert DEPLOY["concurrency"]["cancel-in-progress"] is False


def test_aws_is_reached_without_a_stored_key_and_only_where_it_is_needed():
    assert set(re.findall(r"secrets\.(\w+)", TEXT)) == {"CHAT_TOKEN"}
    assert "aws-access-key-id" not in TEXT
    with_identity = {name for name, job in JOBS.items() if job.get("permissions", {}).get("id-token") == "write"}
    assert with_identity == {"package", "stack", "deliver"}
    assert all(JOBS[name]["environment"] for name in with_identity)
    assert JOBS["stack"]["environment"] != JOBS["deliver"]["environment"], "the stack has reviewers of its own"


def test_a_delivery_is_tried_and_taken_back_when_it_does_not_work():
    steps = [step.get("run", "") for step in JOBS["deliver"]["steps"]]
    order = [
        next(i for i, run in enumerate(steps) if words in run) for words in ("--keep", "deploy.smoke", '" before.json')
    ]
    assert order == sorted(order)
    assert "steps.smoke.outcome == 'failure'" in JOBS["deliver"]["steps"][-1]["if"]


def test_checks_run_on_real_services():
    job = CHECKS["jobs"]["checks"]
    assert set(job["services"]) == {"redis", "mysql"}
    assert {"REDIS_URL", "MYSQL_URL"} <= set(job["env"])
    assert [step["run"] for step in job["steps"] if step.get("run", "").startswith("make ")] == [
        "make lint",
        "make lint-deploy",
        "make test",
        "make build",
    ]
