"""Metrics of one event as Embedded Metric Format, to be part of the event's log line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics

from chat.adapters.telemetry.metric_names import DIMENSIONS, SERVICE, Metric


def embedded(values: Mapping[Metric, float], service: str, namespace: str, kind: str = "") -> dict[str, Any]:
    """Return the members that make a JSON line publish `values`, by `kind` too where the metric has that dimension.

    `EphemeralMetrics`, anew for each event: Powertools' `Metrics` share their values within a process, where under
    concurrency one answer would publish another's.

    Source: Amazon CloudWatch user guide, "Specification: Embedded metric format".
    """
    metrics = EphemeralMetrics(namespace=namespace, service=service)
    metrics.add_dimension(SERVICE, service)
    for metric, value in values.items():
        metrics.add_metric(metric.name, metric.unit, value)
        if kind and metric in DIMENSIONS:
            metrics.add_dimensions(**{SERVICE: service, DIMENSIONS[metric]: kind})
    plain = {metric.name: value for metric, value in values.items()}  # numbers, where Powertools writes lists of one
    return {**metrics.serialize_metric_set(), **plain}
