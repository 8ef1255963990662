"""The journal as log lines and metrics: each event is one line, and publishes its numbers itself."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from aws_lambda_powertools import Logger

from chat.adapters.telemetry import metric_names
from chat.adapters.telemetry.logs import event_logger
from chat.adapters.telemetry.metric_names import Metric
from chat.adapters.telemetry.metrics import embedded
from chat.application.ports import Fallback, Probe
from chat.domain.answer import DELTA, Answer
from chat.domain.model import AnswerIds, Status, StoredAnswer
from chat.settings import TelemetrySettings

USER_CHARACTERS = 16
"""Hexadecimal digits of a user's pseudonym: 64 bits, so that two of a million users share one with p < 1e-7."""
SHARED: dict[str, Any] = {"requestId": None, "chatId": None, "messageId": None}
"""What concerns all answers of a process carries the ids of none."""


class LoggingJournal:
    """Writes an answer's life. Holds numbers of this process only, so that concurrent answers cannot mix.

    A user appears as a keyed hash (HMAC-SHA-256): ids can be guessed, and a plain hash of a guess would show who it is.
    Without a key in the settings one is drawn for the life of the process.
    """

    def __init__(self, settings: TelemetrySettings, logger: Logger | None = None) -> None:
        key = settings.user_key.reveal().encode() if settings.user_key else secrets.token_bytes(32)
        self._key = key
        self._service, self._namespace = settings.service, settings.namespace
        self._logger = logger or event_logger(settings)
        self._running: WeakSet[Answer] = WeakSet()
        self._active: int | None = None

    def counted(self, active: int) -> None:
        self._active = active

    def started(self, answer: Answer, user_id: str, redis_milliseconds: float) -> None:
        self._running.add(answer)
        values: dict[Metric, float] = {metric_names.ANSWER_STARTED: 1, metric_names.PROCESS_STREAMS: len(self._running)}
        active, self._active = self._active, None
        if active is not None:  # Redis has just answered
            values |= {metric_names.ACTIVE_STREAMS: active, metric_names.REDIS_WAIT: _rounded(redis_milliseconds)}
        fields = {**_ids(answer.identity), "user": self._pseudonym(user_id), "model": answer.identity.model}
        self._write(metric_names.STARTED, fields, values)

    def first_delta(self, answer: Answer, user_id: str, milliseconds: float) -> None:
        fields = {**_ids(answer.identity), "user": self._pseudonym(user_id)}
        self._write(metric_names.FIRST_DELTA, fields, {metric_names.TIME_TO_FIRST_DELTA: _rounded(milliseconds)})

    def ended(self, answer: Answer, user_id: str, milliseconds: float) -> None:
        self._running.discard(answer)
        ending, usage = answer.outcome, answer.usage
        deltas = answer.events.count_of(DELTA)
        fields: dict[str, Any] = {
            **_ids(answer.identity),
            "user": self._pseudonym(user_id),
            "status": ending.status if ending else "taken over",
            "finishReason": ending.finish_reason if ending else None,
            "errorCode": ending.error_code if ending else None,
            "events": len(answer.events),
            "characters": answer.characters,
            "sources": len(answer.sources),
        }
        values = {metric_names.ANSWER_DURATION: _rounded(milliseconds), metric_names.DELTAS: deltas}
        if ending is not None:  # else whoever took the answer over has counted its end
            values[metric_names.ENDS[ending.status]] = 1
        if usage is not None:
            fields["usageEstimated"] = usage.estimated
            values |= {metric_names.INPUT_TOKENS: usage.input_tokens, metric_names.OUTPUT_TOKENS: usage.output_tokens}
        is_well = ending is not None and ending.status in (Status.COMPLETED, Status.CANCELLED)
        self._write(metric_names.ENDED, fields, values, logging.INFO if is_well else logging.WARNING)

    def cancelled(
        self,
        chat_id: str,
        message_id: str | None,
        user_id: str | None,
        session_id: str,
        outcome: str,
        milliseconds: float,
    ) -> None:
        fields = {
            **{"chatId": chat_id, "messageId": message_id, "sessionId": session_id, "outcome": outcome},
            **{"user": self._pseudonym(user_id) if user_id else None, "milliseconds": _rounded(milliseconds)},
        }
        is_stopping = message_id is not None and outcome != "NotActive"
        self._write(
            metric_names.CANCEL, fields, {metric_names.CANCEL_LATENCY: _rounded(milliseconds)} if is_stopping else {}
        )

    def reaped(self, answer: StoredAnswer, ending: str) -> None:
        values = {metric_names.ANSWER_REAPED: 1}
        if ending == Status.INTERRUPTED:  # a parked end was counted by its owner
            values[metric_names.ENDS[Status.INTERRUPTED]] = 1
        self._write(metric_names.REAPED, {**_ids(answer.identity), "ending": ending}, values, logging.WARNING)

    def limited(self, chat_id: str, user_id: str, session_id: str, limit: str) -> None:
        fields = {
            "chatId": chat_id,
            "sessionId": session_id,
            "user": self._pseudonym(user_id),
            metric_names.LIMIT: limit,
        }
        self._write(metric_names.LIMITED, fields, {metric_names.RATE_LIMITED: 1}, kind=limit)

    def fallback(self, what: Fallback, message_id: str | None = None) -> None:
        fields = {metric_names.WHAT: what} | ({"messageId": message_id} if message_id else SHARED)
        level = logging.ERROR if what == "final_lost" else logging.WARNING
        self._write(metric_names.FALLBACK, fields, {metric_names.FALLBACKS: 1}, level, what)

    def probed(self, redis: Probe, mysql: Probe, active: int | None) -> None:
        values: dict[Metric, float] = {
            metric_names.REDIS_HEALTHY: int(redis.is_well),
            metric_names.MYSQL_HEALTHY: int(mysql.is_well),
        }
        if redis.milliseconds is not None:
            values[metric_names.REDIS_LATENCY] = redis.milliseconds
        if mysql.milliseconds is not None:
            values[metric_names.MYSQL_LATENCY] = mysql.milliseconds
        if active is not None:
            values[metric_names.ACTIVE_STREAMS] = active
        level = logging.INFO if redis.is_well and mysql.is_well else logging.WARNING
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
        say = {logging.INFO: self._logger.info, logging.WARNING: self._logger.warning}.get(level, self._logger.error)
        say(event, extra={**fields, **metrics})

    def _pseudonym(self, user_id: str) -> str:
        return hmac.digest(self._key, user_id.encode(), hashlib.sha256).hex()[:USER_CHARACTERS]


def _ids(who: AnswerIds) -> dict[str, Any]:
    return {
        "chatId": who.chat_id,
        "messageId": who.message_id,
        "userMessageId": who.user_message_id,
        "sessionId": who.session_id,
    }


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 1)
