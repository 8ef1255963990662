"""What is done to the service while it streams; given servers are reached through a proxy only."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from random import Random

from tests.kit.proxy import Proxy
from tests.kit.service import Service
from tests.soak.checks import Fault

FROZEN_SECONDS = 3.0


async def disturb(
    service: Service, proxies: dict[str, Proxy], faults: list[Fault], random: Random, every_seconds: float, until: float
) -> None:
    """Do one thing after the other, a kill first, until that moment."""
    kinds = ["killed", *(f"{name}_{what}" for name in proxies for what in ("frozen", "cut"))]
    order = list(kinds)
    while time.monotonic() + every_seconds + FROZEN_SECONDS < until:
        await asyncio.sleep(every_seconds)
        await _inflict(order.pop(0), service, proxies, faults, random)
        if not order:
            order = random.sample(kinds, len(kinds))


async def _inflict(kind: str, service: Service, proxies: dict[str, Proxy], faults: list[Fault], random: Random) -> None:
    now = time.monotonic()
    store, _, what = kind.partition("_")
    faults.append(Fault(kind, now, now + (FROZEN_SECONDS if what == "frozen" else 0)))
    if kind == "killed":
        os.kill(random.choice(service.pids("-m lambda_stream")), signal.SIGKILL)
    elif what == "cut":
        proxies[store].cut()
    else:
        proxies[store].freeze()
        try:
            await asyncio.sleep(FROZEN_SECONDS)
        finally:
            proxies[store].thaw()
        faults[-1] = Fault(kind, now, time.monotonic())
