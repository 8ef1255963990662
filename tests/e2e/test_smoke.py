"""`make smoke` against the service as `make run` starts it."""

import subprocess
import sys

import pytest

from tests.kit.service import ROOT, clean_environ, running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]


def test_the_smoke_test_passes_on_a_running_service():
    with running() as service:
        command = [sys.executable, "-m", "deploy.smoke", service.url]
        done = subprocess.run(command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 7
