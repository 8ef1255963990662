"""The workflows say what deploy/ and docs/deploy.md promise; their syntax is linted by `make lint-deploy`."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.units import UNITS

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


CHECKS, DEPLOY = read("checks.yml"), read("deploy.yml")
TEXT = (FOLDER / "deploy.yml").read_text()
JOBS = DEPLOY["jobs"]


def test_what_is_delivered_follows_from_what_is_deployed_and_not_from_the_push():
    assert "event.before" not in TEXT
    (plan,) = [step["run"] for step in JOBS["package"]["steps"] if step.get("id") == "plan"]
    assert "deploy.plan packaged.json" in plan
    assert all(unit.name in DEPLOY[True]["workflow_dispatch"]["inputs"]["only"]["description"] for unit in UNITS)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yml")))
class TestEveryWorkflow:
    def test_no_expression_reaches_a_shell(self, name):
        """What an expression yields is text of a script there, with whatever a title or an input holds."""
        for job in read(name)["jobs"].values():
            for step in job.get("steps", []):
                assert "${{" not in step.get("run", ""), step

    def test_actions_and_images_are_pinned_by_hash(self, name):
        for job in read(name)["jobs"].values():
            used = [step["uses"] for step in job.get("steps", []) if "uses" in step]
            assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", use) for use in used), used
            images = [service["image"] for service in job.get("services", {}).values()]
            assert all(re.fullmatch(r"[\w./-]+:[\w.]+@sha256:[0-9a-f]{64}", image) for image in images), images

    def test_no_job_runs_for_ever_and_none_leaves_the_repositorys_token_lying_about(self, name):
        for job in read(name)["jobs"].values():
            assert "timeout-minutes" in job or "uses" in job
            for step in job.get("steps", []):
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] is False


def test_nothing_is_delivered_before_the_checks_have_passed():
    def before(job):
        needs = JOBS[job].get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
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
    environments = {name: JOBS[name]["environment"] for name in with_identity}
    assert environments == {"package": "packaging", "stack": "infrastructure", "deliver": "production"}
    assert "refs/heads/main" in JOBS["package"]["if"]


def test_a_delivery_is_tried_and_taken_back_when_it_does_not_work():
    steps = [step.get("run", "") for step in JOBS["deliver"]["steps"]]
    order = [
        next(i for i, run in enumerate(steps) if words in run) for words in ("--keep", "deploy.smoke", "--at-once")
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
        "make emulator",
        "make test",
        "make build",
    ]
