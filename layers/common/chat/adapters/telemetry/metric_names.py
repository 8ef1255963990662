"""Every name that dashboards, alarms and queries may rely on: events, metrics with their units, dimensions.

docs/operations.md explains each; a test compares the two, another the metrics that template.yaml watches.

Source: CloudWatch API, MetricDatum (units); Embedded Metric Format specification (dimensions, `_aws`).
"""

from __future__ import annotations

from typing import NamedTuple

from chat.domain.model import Status

STARTED = "answer started"
FIRST_DELTA = "first delta"
ENDED = "answer ended"
CANCEL = "cancel answered"
REAPED = "answer reaped"
LIMITED = "limit reached"
FALLBACK = "fallback taken"
FEEDBACK = "feedback given"
PROBED = "stores probed"

EVENTS = (STARTED, FIRST_DELTA, ENDED, CANCEL, REAPED, LIMITED, FALLBACK, FEEDBACK, PROBED)
"""The `message` of each line that the journal writes."""


class Metric(NamedTuple):
    """A metric's name and CloudWatch's word for its unit."""

    name: str
    unit: str


ANSWER_STARTED = Metric("AnswerStarted", "Count")
ANSWER_DURATION = Metric("AnswerDuration", "Milliseconds")
ANSWER_REAPED = Metric("AnswerReaped", "Count")
TIME_TO_FIRST_DELTA = Metric("FirstDelta", "Milliseconds")
DELTAS = Metric("Deltas", "Count")
INPUT_TOKENS = Metric("InputTokens", "Count")
OUTPUT_TOKENS = Metric("OutputTokens", "Count")
DROPPED_EVENTS = Metric("DroppedEvents", "Count")
CANCEL_LATENCY = Metric("CancelLatency", "Milliseconds")
RATE_LIMITED = Metric("RateLimited", "Count")
FALLBACKS = Metric("Fallback", "Count")
FEEDBACK_UP = Metric("FeedbackUp", "Count")
FEEDBACK_DOWN = Metric("FeedbackDown", "Count")
ACTIVE_STREAMS = Metric("ActiveStreams", "Count")
PROCESS_STREAMS = Metric("ProcessStreams", "Count")
REDIS_WAIT = Metric("RedisWait", "Milliseconds")
REDIS_HEALTHY = Metric("RedisHealthy", "Count")
REDIS_LATENCY = Metric("RedisLatency", "Milliseconds")
MYSQL_HEALTHY = Metric("MysqlHealthy", "Count")
MYSQL_LATENCY = Metric("MysqlLatency", "Milliseconds")

ENDS = {
    Status.COMPLETED: Metric("AnswerCompleted", "Count"),
    Status.CANCELLED: Metric("AnswerCancelled", "Count"),
    Status.FAILED: Metric("AnswerFailed", "Count"),
    Status.TIMEOUT: Metric("AnswerTimedOut", "Count"),
    Status.INTERRUPTED: Metric("AnswerInterrupted", "Count"),
}
"""A metric of its own for each status: an alarm then needs no second dimension."""

METRICS = (
    ANSWER_STARTED,
    *ENDS.values(),
    ANSWER_DURATION,
    ANSWER_REAPED,
    TIME_TO_FIRST_DELTA,
    DELTAS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    DROPPED_EVENTS,
    CANCEL_LATENCY,
    RATE_LIMITED,
    FALLBACKS,
    FEEDBACK_UP,
    FEEDBACK_DOWN,
    ACTIVE_STREAMS,
    PROCESS_STREAMS,
    REDIS_WAIT,
    REDIS_HEALTHY,
    REDIS_LATENCY,
    MYSQL_HEALTHY,
    MYSQL_LATENCY,
)

SERVICE = "service"
LIMIT = "limit"
WHAT = "what"
DIMENSIONS = {RATE_LIMITED: LIMIT, FALLBACKS: WHAT}
"""The second dimension that a metric has beside `service`; its values are a few fixed words, never an id."""
