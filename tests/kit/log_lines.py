"""Reads log output: JSON lines, and the metrics that CloudWatch would take from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]
UNITS = {"Count", "Milliseconds"}


def parse(output: str) -> list[Line]:
    """Return the lines; every one must be a JSON object with a level, an RFC 3339 time and a message."""
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        assert {"level", "timestamp", "message", "service"} <= set(line), line
        assert line["timestamp"].endswith("Z") and len(line["timestamp"]) == 24, line["timestamp"]
    return lines


def of(lines: Sequence[Line], message: str) -> list[Line]:
    """Return the lines of one event."""
    return [line for line in lines if line["message"] == message]


def metrics(line: Line) -> dict[str, float]:
    """Return what a line publishes, checked against the specification of the embedded metric format."""
    if "_aws" not in line:
        return {}
    assert isinstance(line["_aws"]["Timestamp"], int)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"].strip()
    for dimensions in directive["Dimensions"]:
        assert all(isinstance(line[name], str) and line[name] for name in dimensions)
    found = {}
    for metric in directive["Metrics"]:
        assert metric["Unit"] in UNITS
        value = line[metric["Name"]]
        assert type(value) in (int, float), (metric, value)
        found[metric["Name"]] = value
    return found


def dimensions(line: Line) -> list[list[str]]:
    """Return the sets of dimensions that a line's metrics are published under."""
    return line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] if "_aws" in line else []
