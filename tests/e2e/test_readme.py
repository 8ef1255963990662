"""The commands of the two READMEs, copied as they stand there, against the service as `make run` starts it."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit.browser import need
from tests.kit.service import ROOT, running

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]

PAGES = ["README.md", "README.ko.md"]
PAUSE = "sleep 2"
"""How long the background command of the pages waits; here it waits for the first words instead."""


def commands(page):
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    return "".join(block for block in blocks if "curl" in block)


def run(page, service, folder):
    """Run the page's commands in a shell and return what they print, line by line."""
    os.mkfifo(folder / "begun")
    script = commands(page).replace("localhost:8000", service.url.removeprefix("http://"))
    assert script.count(PAUSE) == 1
    script = script.replace(PAUSE, "cat begun") + "\nwait\n"
    lines, answers = [], 0
    with subprocess.Popen(["sh", "-euc", script], cwd=folder, stdout=subprocess.PIPE, text=True) as shell:
        for line in shell.stdout:
            lines.append(line.rstrip("\n"))
            answers += line == "event: start\n"
            if answers == 2 and line.startswith('data: {"delta"'):
                (folder / "begun").write_text("")
                answers += 1
    assert shell.returncode == 0
    return lines


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    need("curl")
    with running() as service, ThreadPoolExecutor() as pool:
        folders = [tmp_path_factory.mktemp("readme") for _ in PAGES]
        return dict(zip(PAGES, pool.map(run, PAGES, [service] * len(PAGES), folders), strict=True))


def ends(lines):
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith('data: {"status"')]


@pytest.mark.parametrize("page", PAGES)
def test_the_first_answer_is_whole_and_the_second_is_cancelled(page, printed):
    lines = printed[page]
    assert [end["status"] for end in ends(lines)] == ["completed", "cancelled"]
    # curl ends it without a line feed, so that the other command's next line may follow at once
    (reply,) = [json.JSONDecoder().raw_decode(line)[0] for line in lines if line.startswith('{"success"')]
    assert reply["success"] is True
    assert reply["characters"] == ends(lines)[1]["characters"]


def test_the_answer_on_the_page_is_the_one_that_comes(printed):
    shown = re.search(r"^```\n(event: start\n.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    first = [line for line in printed["README.md"] if line.startswith("data:")]
    assert re.findall(r'^data: \{"delta".*', shown, re.M) == first[1:3]
    end = ends(printed["README.md"])[0]
    assert f'"inputTokens":{end["usage"]["inputTokens"]},…' in shown
    assert f'"characters":{end["characters"]}}}' in shown
