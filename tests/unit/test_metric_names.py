"""The names of events and metrics are the same in the code, in docs/operations.md and in template.yaml."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from chat.adapters.redis.rate_limiter import REASONS
from chat.adapters.telemetry import metric_names
from chat.application.telemetry_events import Fallback
from tests.kit.cloudformation import Rendered

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
METRICS = {metric.name: metric.unit for metric in metric_names.METRICS}
SERVICES = {"create_chat", "stream_chat", "cancel_stream", "manage_chats"}


def table(after: str) -> list[list[str]]:
    """Return the cells of the first table after a piece of text."""
    rows = re.search(r"\n\n(\|.*?)\n\n", PAGE[PAGE.index(after) :], re.S)
    assert rows
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[1].split("\n")[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_lists_every_event_in_the_order_of_an_answers_life():
    assert [code(row[0])[0] for row in table("## The log")] == list(metric_names.EVENTS)


def test_the_page_lists_every_metric_with_its_unit_and_the_event_that_publishes_it():
    rows = table("## Metrics")
    assert {code(row[0])[0]: row[1] for row in rows} == METRICS
    for row in rows:
        assert set(code(row[2])) <= set(metric_names.EVENTS)


def test_the_page_explains_every_fallback_and_limit():
    assert {code(row[0])[0] for row in table("What a `fallback` is")} == set(get_args(Fallback))
    (limited,) = [row for row in table("## The log") if code(row[0]) == [metric_names.LIMITED]]
    assert set(code(limited[2])) - {"limit"} == set(REASONS)


def test_the_page_alarms_on_nothing_that_is_not_published():
    known = set(METRICS) | {"Errors", "Throttles", "DatabaseConnections"}
    for row in table("## What to alarm on"):
        assert code(row[0])[0] in known


def test_the_stars_on_the_page_are_the_alarms_of_the_template():
    starred = {tuple(code(row[0])) for row in table("## What to alarm on") if row[0].startswith("\\*")}
    alarms = [r["Properties"] for r in Rendered().resources.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    found = set()
    for alarm in alarms:
        metrics = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", []) if "MetricStat" in one] or [alarm]
        for metric in metrics[:1]:  # a rate reads first what goes wrong, then what it is a part of
            what = [one["Value"] for one in metric["Dimensions"] if one["Name"] == metric_names.WHAT]
            found.add((metric["MetricName"], metric_names.WHAT, *what) if what else (metric["MetricName"],))
    assert starred == found


def watched() -> list[tuple[str, dict[str, str]]]:
    """Return each of our metrics that an alarm or the dashboard of the template reads, with its dimensions."""
    stack = Rendered()
    namespace, found = "aiva-chat", []
    for resource in stack.resources.values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            entries = properties.get("Metrics", [])
            for metric in [e["MetricStat"]["Metric"] for e in entries if "MetricStat" in e] or [properties]:
                if metric["Namespace"] == namespace:
                    dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
                    found.append((metric["MetricName"], dimensions))
        if resource["Type"] == "AWS::CloudWatch::Dashboard":
            for widget in json.loads(properties["DashboardBody"])["widgets"]:
                for space, name, *rest in widget["properties"]["metrics"]:
                    if space == namespace:
                        flat = [one for one in rest if isinstance(one, str)]
                        found.append((name, dict(zip(flat[::2], flat[1::2], strict=True))))
    return sorted(found, key=str)  # test processes must agree on the order


@pytest.mark.parametrize(("metric", "dimensions"), watched())
def test_the_template_watches_metrics_that_are_published_under_these_dimensions(metric, dimensions):
    assert metric in METRICS
    second = {
        metric_names.DIMENSIONS[one]
        for one in metric_names.METRICS
        if one.name == metric and one in metric_names.DIMENSIONS
    }
    assert dimensions.pop("service") in SERVICES
    assert set(dimensions) <= second
    assert set(dimensions.values()) <= {*get_args(Fallback), *REASONS}


def test_the_template_watches_at_least_an_alarm_and_a_widget_for_each_of_our_promises():
    watched_names = {metric for metric, _ in watched()}
    assert watched_names >= {"FirstDelta", "CancelLatency", "AnswerFailed", "Fallback", "ActiveStreams"}


def test_the_template_alarms_on_a_lost_end_by_itself():
    assert ("Fallback", {"service": "stream_chat", "what": "final_lost"}) in watched()
