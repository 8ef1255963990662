"""Per-user limits in Redis: one script takes everything or nothing, and repeating it changes nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from redis.exceptions import ResponseError

from chat.adapters.redis import keys
from chat.adapters.redis.connection import Command, RedisUnavailable, Replies
from chat.adapters.redis.flush_loop import FlushLoop
from chat.adapters.redis.servers import CommandClient
from chat.application.ports import AdmissionRequest
from chat.domain.errors import RateLimited
from chat.settings import LimitSettings

ADMIT = """
local now = tonumber(redis.call('TIME')[1])
local message, name, seconds, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local active_limit, minute_limit, token_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60)
local day = math.floor(now / 86400)
if redis.call('HGET', KEYS[3], 'day') ~= tostring(day) then redis.call('DEL', KEYS[3]) end
local has_place, active, places = {}, {}, 0
for _, each in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local of = string.match(each, '^(.*):')
  has_place[each] = true
  if not active[of] then active[of], places = true, places + 1 end
end
if not active[message] then
  if active_limit > 0 and places >= active_limit then
    return {'active', 2}
  end
  if minute_limit > 0 then
    local seen, count = {}, 0
    for _, each in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
      local of = string.match(each, '^(.*):')
      if not (has_place[each] and seen[of]) then count = count + 1 end
      if has_place[each] then seen[of] = true end
    end
    if count >= minute_limit then
      local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
      return {'minute', tonumber(oldest[2]) + 60 - now}
    end
  end
  if token_limit > 0 and tonumber(redis.call('HGET', KEYS[3], 'total') or '0') >= token_limit then
    return {'tokens', (day + 1) * 86400 - now}
  end
end
if minute_limit > 0 then
  redis.call('ZADD', KEYS[2], 'NX', now, name)
  redis.call('EXPIRE', KEYS[2], 120)
end
if token_limit > 0 and not redis.call('HGET', KEYS[3], 'for:' .. name) then
  redis.call('HSET', KEYS[3], 'day', day, 'for:' .. name, tokens)
  redis.call('HINCRBY', KEYS[3], 'total', tokens)
  redis.call('EXPIRE', KEYS[3], 172800)
end
redis.call('ZADD', KEYS[1], now + seconds, name)
redis.call('EXPIRE', KEYS[1], 7200)
return {'', 0}
"""

SETTLE = """
redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[3] == '0' then redis.call('ZREM', KEYS[2], ARGV[1]) end
local reserved = redis.call('HGET', KEYS[3], 'for:' .. ARGV[1])
if reserved then
  redis.call('HDEL', KEYS[3], 'for:' .. ARGV[1])
  redis.call('HINCRBY', KEYS[3], 'total', tonumber(ARGV[2]) - tonumber(reserved))
end
return 1
"""

PROLONG = """
return redis.call('ZADD', KEYS[1], 'XX', tonumber(redis.call('TIME')[1]) + tonumber(ARGV[2]), ARGV[1])
"""

PLACE_SECONDS = 30.0
"""How long a place is kept for a process that is heard of no more."""
MAX_OWED = 1000
OWED_AT_ONCE = 50
"""How much of what is owed goes with one request once Redis has refused some."""

REASONS = {
    "active": "Too many answers are being generated for you at once: wait for one, or cancel one.",
    "minute": "Too many messages within a minute.",
    "tokens": "The number of tokens for today is used up.",
}


class RedisRateLimiter:
    """Counts attempts; those at one message take one place together.

    The scripts read the server's clock, so that processes need not agree on the time. With Redis down, or out of
    memory, everything passes, and `on_unavailable` hears of it. What could not be released then goes with the next
    request; should there be none, the slot is free when it is no longer renewed, the reservation with the day.
    """

    def __init__(
        self,
        client: CommandClient,
        flush_loop: FlushLoop,
        settings: LimitSettings,
        on_unavailable: Callable[[], None] = lambda: None,
        place_seconds: float = PLACE_SECONDS,
    ) -> None:
        self._client, self._flush_loop = client, flush_loop
        self._settings = settings
        self._on_unavailable = on_unavailable
        self._place_seconds = place_seconds
        self._is_on = bool(settings.active_answers or settings.messages_per_minute or settings.tokens_per_day)
        self._prolong_at: dict[AdmissionRequest, float] = {}
        """When the places that are held are to be prolonged, in the event loop's seconds."""
        self._owed: deque[Command] = deque(maxlen=MAX_OWED)
        self._is_refused = False

    async def acquire(self, attempt: AdmissionRequest, tokens: int) -> None:
        if not self._is_on:
            return
        if self._client.is_unavailable:  # nothing is asked, so nothing is owed
            self._on_unavailable()
            return
        limits = self._settings
        command: Command = (
            "EVAL",
            ADMIT,
            3,
            *_keys(attempt),
            attempt.message,
            _name(attempt),
            self._place_seconds,
            tokens,
            limits.active_answers,
            limits.messages_per_minute,
            limits.tokens_per_day,
        )
        self._hold(attempt, asyncio.get_running_loop().time())
        try:
            reply = (await self._run(command))[-1]
        except RedisUnavailable:
            self._on_unavailable()
            return
        if isinstance(reply, ResponseError):
            self._on_unavailable()
        elif reply[0]:
            self._prolong_at.pop(attempt, None)
            await self._rest()
            limit = reply[0].decode()
            raise RateLimited(REASONS[limit], int(reply[1]), limit)

    async def release(self, attempt: AdmissionRequest, tokens: int, has_started: bool) -> None:
        if self._prolong_at.pop(attempt, None) is None:
            return
        self._owed.append(("EVAL", SETTLE, 3, *_keys(attempt), _name(attempt), tokens, int(has_started)))
        if not self._prolong_at:
            self._flush_loop.drop(self)
        with suppress(RedisUnavailable):
            await self._run()
        await self._rest()

    def pending_commands(self, now: float) -> Sequence[Command]:
        """Return what prolongs places."""
        due = [attempt for attempt, at in self._prolong_at.items() if now >= at]
        for attempt in due:
            self._hold(attempt, now)
        return [("EVAL", PROLONG, 1, _keys(attempt)[0], _name(attempt), self._place_seconds) for attempt in due]

    def on_replies(self, replies: Sequence[object]) -> None:
        """Nothing depends on it."""

    def _hold(self, attempt: AdmissionRequest, now: float) -> None:
        self._prolong_at[attempt] = now + self._place_seconds / 3
        self._flush_loop.join(self)

    async def _rest(self) -> None:
        if not self._prolong_at:
            await self._flush_loop.leave(self)

    async def _run(self, *commands: Command) -> Replies:
        """Send some of what is owed, then `commands`."""
        most = OWED_AT_ONCE if self._is_refused else MAX_OWED
        owed = [self._owed.popleft() for _ in range(min(len(self._owed), most))]
        unpaid = owed
        try:
            replies = await self._client.run(*owed, *commands)
            unpaid = [
                command for command, reply in zip(owed, replies, strict=False) if isinstance(reply, ResponseError)
            ]
            self._is_refused = bool(unpaid)
        finally:
            self._owed.extendleft(reversed(unpaid))
        return replies


def _name(attempt: AdmissionRequest) -> str:
    return f"{attempt.message}:{attempt.name}"


def _keys(attempt: AdmissionRequest) -> tuple[str, str, str]:
    user_id = attempt.user_id
    return keys.limit(user_id, "active"), keys.limit(user_id, "minute"), keys.limit(user_id, "tokens")
