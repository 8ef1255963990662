"""`make smoke` against the service as `make run` starts it, with what the template lets its functions do in Redis."""

import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.kit.cloudformation import Rendered
from tests.kit.redis_servers import own_server
from tests.kit.service import ROOT, clean_environ, running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]


def test_the_smoke_test_passes_as_the_user_that_the_template_makes_in_its_cache():
    user = Rendered(OpenAiApiKey="sk").of("CacheUser")
    with own_server() as server, Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", user["UserName"], "on", ">pw", *user["AccessString"].split())
        url = urlsplit(server.url)._replace(netloc=f"{user['UserName']}:pw@127.0.0.1:{server.port}").geturl()
        with running({"REDIS_URL": url}) as service:
            command = [sys.executable, "-m", "deploy.smoke", service.url]
            done = subprocess.run(command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True)
        refused = admin.acl_log()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 7
    assert refused == []
