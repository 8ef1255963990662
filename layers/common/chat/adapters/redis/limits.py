"""Per-user limits in Redis: one script takes everything or nothing, and repeating it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from chat.adapters.redis import keys
from chat.adapters.redis.connection import RedisAway, Refusal
from chat.adapters.redis.pipe import Pipe
from chat.errors import RateLimited
from chat.settings import LimitSettings

ADMIT = """
local now = tonumber(redis.call('TIME')[1])
local member, lifetime, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local active_limit, minute_limit, token_limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60)
local is_active = redis.call('ZSCORE', KEYS[1], member)
local is_counted = redis.call('ZSCORE', KEYS[2], member)
local day = math.floor(now / 86400)
if redis.call('HGET', KEYS[3], 'day') ~= tostring(day) then redis.call('DEL', KEYS[3]) end
local is_reserved = redis.call('HGET', KEYS[3], 'for:' .. member)
if active_limit > 0 and not is_active and redis.call('ZCARD', KEYS[1]) >= active_limit then
  return {'active', 2}
end
if minute_limit > 0 and not is_counted and redis.call('ZCARD', KEYS[2]) >= minute_limit then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return {'minute', tonumber(oldest[2]) + 60 - now}
end
if token_limit > 0 and not is_reserved then
  if tonumber(redis.call('HGET', KEYS[3], 'total') or '0') >= token_limit then
    return {'tokens', (day + 1) * 86400 - now}
  end
  redis.call('HSET', KEYS[3], 'day', day, 'for:' .. member, tokens)
  redis.call('HINCRBY', KEYS[3], 'total', tokens)
  redis.call('EXPIRE', KEYS[3], 172800)
end
if active_limit > 0 then
  redis.call('ZADD', KEYS[1], now + lifetime, member)
  redis.call('EXPIRE', KEYS[1], 7200)
end
if minute_limit > 0 and not is_counted then
  redis.call('ZADD', KEYS[2], now, member)
  redis.call('EXPIRE', KEYS[2], 120)
end
return {'', 0}
"""

SETTLE = """
redis.call('ZREM', KEYS[1], ARGV[1])
local reserved = redis.call('HGET', KEYS[2], 'for:' .. ARGV[1])
if reserved then
  redis.call('HDEL', KEYS[2], 'for:' .. ARGV[1])
  redis.call('HINCRBY', KEYS[2], 'total', tonumber(ARGV[2]) - tonumber(reserved))
end
return 1
"""

REASONS = {
    "active": "Too many answers are being generated for you at once: wait for one, or cancel one.",
    "minute": "Too many messages within a minute.",
    "tokens": "The number of tokens for today is used up.",
}


class RedisLimits:
    """Counts by `member`, the name of a user message: one message takes one place however often it is sent.

    The script reads the server's clock, so that processes need not agree on the time. With Redis away, or out of
    memory, everything passes, and `on_away` hears of it.
    """

    def __init__(self, pipe: Pipe, settings: LimitSettings, on_away: Callable[[], None] = lambda: None) -> None:
        self._pipe = pipe
        self._settings = settings
        self._on_away = on_away
        self._is_on = bool(settings.active_answers or settings.messages_per_minute or settings.tokens_per_day)

    async def admit(self, user_id: str, member: str, lifetime_seconds: int, tokens: int) -> None:
        if not self._is_on:
            return
        limits = self._settings
        try:
            (reply,) = await self._pipe.run(
                (
                    *("EVAL", ADMIT, 3, keys.limit(user_id, "active"), keys.limit(user_id, "minute")),
                    *(keys.limit(user_id, "tokens"), member, lifetime_seconds, tokens),
                    *(limits.active_answers, limits.messages_per_minute, limits.tokens_per_day),
                )
            )
        except RedisAway:
            self._on_away()
            return
        if isinstance(reply, Refusal):
            self._on_away()
        elif reply[0]:
            limit = reply[0].decode()
            raise RateLimited(REASONS[limit], int(reply[1]), limit)

    async def settle(self, user_id: str, member: str, tokens: int) -> None:
        if not self._is_on:
            return
        with suppress(RedisAway):  # the place expires with the answer's time, the reservation with the day
            await self._pipe.run(
                ("EVAL", SETTLE, 2, keys.limit(user_id, "active"), keys.limit(user_id, "tokens"), member, tokens)
            )
