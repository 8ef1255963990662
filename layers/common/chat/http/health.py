"""How the stores are, probed at most once a second whoever asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chat.application.ports import AnswerTelemetry, Chats, Leases
from chat.application.telemetry_events import Probe, StoresProbed
from chat.domain.errors import StorageUnavailable

FRESH_SECONDS = 1.0
PROBE_SECONDS = 2.0


@dataclass(slots=True)
class Health:
    """Probes Redis and MySQL side by side; says nothing about anyone in them."""

    chats: Chats
    leases: Leases
    telemetry: AnswerTelemetry
    _report: dict[str, Any] = field(default_factory=dict)
    _probed_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def report(self) -> dict[str, Any]:
        """Return the health document: `degraded` without Redis, unhealthy (`mysql.ok` false) without MySQL."""
        async with self._lock:
            if time.monotonic() - self._probed_at > FRESH_SECONDS:
                self._report = await self._probe()
                self._probed_at = time.monotonic()
            return self._report

    async def _probe(self) -> dict[str, Any]:
        redis, mysql, active = await asyncio.gather(
            _timed(self.leases.ping), _timed(self.chats.ping), self.leases.count_active()
        )
        self.telemetry.record(StoresProbed(redis, mysql, active))
        return {
            "status": "ok" if redis.is_healthy and mysql.is_healthy else "degraded",
            "redis": _document(redis),
            "mysql": _document(mysql),
            "activeStreams": active or 0,
        }


def _document(probe: Probe) -> dict[str, Any]:
    return {"ok": probe.is_healthy, "latencyMs": probe.milliseconds}


async def _timed(ping: Callable[[], Awaitable[None]]) -> Probe:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await ping()
    except (StorageUnavailable, TimeoutError):
        return Probe(None)
    return Probe(round((time.monotonic() - began) * 1000, 1))
