"""Fixtures for all tests, and one line at the end for each reason to skip some."""

import signal
from collections import Counter

from tests.kit.databases import database_url, mysql_url, sqlite_template, sqlite_url
from tests.kit.redis_servers import embedded_redis, redis_url

__all__ = ["database_url", "embedded_redis", "mysql_url", "redis_url", "sqlite_template", "sqlite_url"]


def pytest_configure():
    """Have Ctrl-C and a hang-up end what tests start: a shell's background jobs ignore them, as do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config, items):
    """Keep the tests of a group in one process: xdist 3.8 writes their groups where pytest 9.2 no longer looks."""
    if not getattr(config.option, "loadgroup", False) or not (items and hasattr(items[0], "_id")):
        return
    for item in items:
        names = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        if names and not item.nodeid.endswith(f"@{'_'.join(names)}"):
            item._id = type(item._id).parse(f"{item.nodeid}@{'_'.join(names)}")


def pytest_terminal_summary(terminalreporter):
    """Say why tests were skipped: pytest's own summary has a line for each place, hundreds on a bare machine."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reports)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
