"""What the service says of its stores, asked as any monitor asks it."""

from __future__ import annotations

import httpx

from local.server import LOOPBACK

_SECONDS = 15.0


async def is_redis_reachable(port: int) -> bool:
    """Tell what `/health` on this port says of Redis; True as well where it says nothing."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_SECONDS) as client:
            found = (await client.get(f"http://{LOOPBACK}:{port}/health")).json()
            return bool(found["redis"]["ok"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return True  # whatever is wrong then, it is not known to be Redis
