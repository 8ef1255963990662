"""`AnswerTelemetry` as log lines and metrics: each event is one line, which carries its own numbers."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from aws_lambda_powertools import Logger

from chat.adapters.telemetry import metric_names
from chat.adapters.telemetry.logs import event_logger
from chat.adapters.telemetry.metric_names import Metric
from chat.adapters.telemetry.metrics import embedded
from chat.application.telemetry_events import (
    ActiveAnswersCounted,
    AnswerEnded,
    AnswerStarted,
    CancelAnswered,
    FallbackTaken,
    FeedbackGiven,
    FirstDeltaSent,
    LimitReached,
    OrphanRecovered,
    StoresProbed,
    TelemetryEvent,
)
from chat.domain.answer import Answer
from chat.domain.events import EventName
from chat.domain.model import AnswerIds, Status
from chat.settings import TelemetrySettings

USER_CHARACTERS = 16
"""Hexadecimal digits of a pseudonym: 64 bits, so that two of a million users share one with p < 1e-7."""
SHARED: dict[str, Any] = {"requestId": None, "chatId": None, "messageId": None}
"""What concerns all answers of a process carries the ids of none."""


class LoggingTelemetry:
    """Writes an answer's life. Holds numbers of this process only, so that concurrent answers cannot mix.

    Users and sessions appear as keyed hashes (HMAC-SHA-256): ids can be guessed, and a plain hash of a guess would show
    who it is. Without a key in the settings one is drawn for the life of the process.
    """

    def __init__(self, settings: TelemetrySettings, logger: Logger | None = None) -> None:
        key = settings.user_key.reveal().encode() if settings.user_key else secrets.token_bytes(32)
        self._key = key
        self._service, self._namespace = settings.service, settings.namespace
        self._logger = logger or event_logger(settings)
        self._running: WeakSet[Answer] = WeakSet()
        self._active: int | None = None

    def record(self, event: TelemetryEvent) -> None:
        _WRITERS[type(event)](self, event)

    def _counted(self, event: ActiveAnswersCounted) -> None:
        self._active = event.active

    def _first_delta(self, event: FirstDeltaSent) -> None:
        fields = {**self._ids(event.answer.identity), "user": self._pseudonym(event.user_id)}
        milliseconds = _rounded(event.milliseconds)
        self._write(metric_names.FIRST_DELTA, fields, {metric_names.TIME_TO_FIRST_DELTA: milliseconds})

    def _limited(self, event: LimitReached) -> None:
        fields = {metric_names.LIMIT: event.limit}
        if event.chat_id is not None:
            fields["chatId"] = event.chat_id
        for name, value in (("session", event.session_id), ("user", event.user_id)):
            if value is not None:
                fields[name] = self._pseudonym(value)
        self._write(metric_names.LIMITED, fields, {metric_names.RATE_LIMITED: 1}, kind=event.limit)

    def _started(self, event: AnswerStarted) -> None:
        answer = event.answer
        self._running.add(answer)
        values: dict[Metric, float] = {metric_names.ANSWER_STARTED: 1, metric_names.PROCESS_STREAMS: len(self._running)}
        active, self._active = self._active, None
        if active is not None:  # Redis has just answered
            redis_wait = _rounded(event.redis_milliseconds)
            values |= {metric_names.ACTIVE_STREAMS: active, metric_names.REDIS_WAIT: redis_wait}
        fields = {**self._ids(answer.identity), "user": self._pseudonym(event.user_id), "model": answer.identity.model}
        self._write(metric_names.STARTED, fields, values)

    def _ended(self, event: AnswerEnded) -> None:
        answer = event.answer
        self._running.discard(answer)
        outcome, usage = answer.outcome, answer.usage
        deltas = answer.events.count_of(EventName.DELTA)
        fields: dict[str, Any] = {
            **self._ids(answer.identity),
            "user": self._pseudonym(event.user_id),
            "status": outcome.status if outcome else "taken over",
            "finishReason": outcome.finish_reason if outcome else None,
            "errorCode": outcome.error_code if outcome else None,
            "events": len(answer.events),
            "characters": answer.characters,
            "sources": len(answer.sources),
        }
        values = {metric_names.ANSWER_DURATION: _rounded(event.milliseconds), metric_names.DELTAS: deltas}
        if outcome is not None:  # else whoever took the answer over has counted its end
            values[metric_names.ENDS[outcome.status]] = 1
        if usage is not None:
            fields["usageEstimated"] = usage.estimated
            values |= {metric_names.INPUT_TOKENS: usage.input_tokens, metric_names.OUTPUT_TOKENS: usage.output_tokens}
        if answer.dropped:
            values[metric_names.DROPPED_EVENTS] = answer.dropped
        is_good = outcome is not None and outcome.status in (Status.COMPLETED, Status.CANCELLED)
        self._write(metric_names.ENDED, fields, values, logging.INFO if is_good else logging.WARNING)

    def _cancelled(self, event: CancelAnswered) -> None:
        fields = {
            "chatId": event.chat_id,
            "messageId": event.message_id,
            "session": self._pseudonym(event.session_id),
            "outcome": event.result,
            "user": self._pseudonym(event.user_id) if event.user_id else None,
            "milliseconds": _rounded(event.milliseconds),
        }
        is_stopping = event.message_id is not None and event.result != "NotActive"
        values = {metric_names.CANCEL_LATENCY: _rounded(event.milliseconds)} if is_stopping else {}
        self._write(metric_names.CANCEL, fields, values)

    def _recovered(self, event: OrphanRecovered) -> None:
        values = {metric_names.ANSWER_REAPED: 1}
        if event.ending == "interrupted":  # a stashed end was counted by its owner
            values[metric_names.ENDS[Status.INTERRUPTED]] = 1
        fields = {**self._ids(event.answer.identity), "ending": event.ending}
        self._write(metric_names.REAPED, fields, values, logging.WARNING)

    def _fallback(self, event: FallbackTaken) -> None:
        fields: dict[str, Any] = {metric_names.WHAT: event.fallback}
        fields |= {"messageId": event.message_id} if event.message_id else SHARED
        if event.reason:
            fields["reason"] = event.reason
        level = logging.ERROR if event.fallback == "final_lost" else logging.WARNING
        self._write(metric_names.FALLBACK, fields, {metric_names.FALLBACKS: 1}, level, event.fallback)

    def _feedback(self, event: FeedbackGiven) -> None:
        fields = {"chatId": event.chat_id, "messageId": event.message_id, "user": self._pseudonym(event.user_id)}
        metric = metric_names.FEEDBACK_UP if event.rating == "up" else metric_names.FEEDBACK_DOWN
        self._write(metric_names.FEEDBACK, fields, {metric: 1})

    def _probed(self, event: StoresProbed) -> None:
        redis, mysql = event.redis, event.mysql
        values: dict[Metric, float] = {
            metric_names.REDIS_HEALTHY: int(redis.is_healthy),
            metric_names.MYSQL_HEALTHY: int(mysql.is_healthy),
        }
        if redis.milliseconds is not None:
            values[metric_names.REDIS_LATENCY] = redis.milliseconds
        if mysql.milliseconds is not None:
            values[metric_names.MYSQL_LATENCY] = mysql.milliseconds
        if event.active is not None:
            values[metric_names.ACTIVE_STREAMS] = event.active
        level = logging.INFO if redis.is_healthy and mysql.is_healthy else logging.WARNING
        self._write(metric_names.PROBED, SHARED, values, level)

    def _write(
        self,
        event: str,
        fields: Mapping[str, Any],
        values: Mapping[Metric, float],
        level: int = logging.INFO,
        kind: str = "",
    ) -> None:
        metrics = embedded(values, self._service, self._namespace, kind) if values else {}
        log = {logging.INFO: self._logger.info, logging.WARNING: self._logger.warning}.get(level, self._logger.error)
        log(event, extra={**fields, **metrics})

    def _ids(self, identity: AnswerIds) -> dict[str, Any]:
        return {
            "chatId": identity.chat_id,
            "messageId": identity.message_id,
            "userMessageId": identity.user_message_id,
            "session": self._pseudonym(identity.session_id),
        }

    def _pseudonym(self, name: str) -> str:
        return hmac.digest(self._key, name.encode(), hashlib.sha256).hex()[:USER_CHARACTERS]


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 1)


_WRITERS: Mapping[type, Callable[[LoggingTelemetry, Any], None]] = {
    ActiveAnswersCounted: LoggingTelemetry._counted,
    AnswerStarted: LoggingTelemetry._started,
    FirstDeltaSent: LoggingTelemetry._first_delta,
    AnswerEnded: LoggingTelemetry._ended,
    CancelAnswered: LoggingTelemetry._cancelled,
    OrphanRecovered: LoggingTelemetry._recovered,
    LimitReached: LoggingTelemetry._limited,
    FallbackTaken: LoggingTelemetry._fallback,
    FeedbackGiven: LoggingTelemetry._feedback,
    StoresProbed: LoggingTelemetry._probed,
}
