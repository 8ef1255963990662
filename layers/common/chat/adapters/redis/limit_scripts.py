"""The scripts behind the limits per user: each takes everything or nothing, and repeating it changes nothing.

They read the server's clock, so that processes need not agree on the time. All keys of a script carry the user's hash
tag and live in one slot. A refusal is a pair: which limit, and in how many seconds to come back; `{'', 0}` is none.
"""

from __future__ import annotations

ADMIT = """
local now = tonumber(redis.call('TIME')[1])
local message, name, seconds, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local active_limit, minute_limit, token_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local stream, stream_limit = ARGV[8], tonumber(ARGV[9])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
if stream_limit > 0 and not redis.call('ZSCORE', KEYS[4], stream) and redis.call('ZCARD', KEYS[4]) >= stream_limit then
  return {'streams', 5}
end
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
  local total = tonumber(redis.call('HGET', KEYS[3], 'total') or '0')
  if token_limit > 0 and total >= token_limit then
    local fields = redis.call('HGETALL', KEYS[3])
    for at = 1, #fields, 2 do
      if string.sub(fields[at], 1, 4) == 'for:' and has_place[string.sub(fields[at], 5)] then
        total = total - tonumber(fields[at + 1])
      end
    end
    if total < token_limit then return {'reserved', 5} end
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
if stream_limit > 0 then
  redis.call('ZADD', KEYS[4], now + seconds, stream)
  redis.call('EXPIRE', KEYS[4], 7200)
end
return {'', 0}
"""
"""Takes an attempt's slot and its stream's place, counts the message and reserves tokens.

Keys: active answers, messages of the last minute, tokens of the day, open streams.
"""

RESERVE = """
local reserved = redis.call('HGET', KEYS[1], 'for:' .. ARGV[1])
if reserved then
  redis.call('HSET', KEYS[1], 'for:' .. ARGV[1], ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'total', tonumber(ARGV[2]) - tonumber(reserved))
end
return 1
"""
"""Replaces what an attempt has reserved, unless it has been settled."""

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
"""Gives an attempt's slot back and replaces what it reserved by what it used."""

OPEN_STREAM = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return {'streams', 5}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], 7200)
return {'', 0}
"""
"""Takes the place of a stream that generates nothing."""

COUNT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {ARGV[3], tonumber(oldest[2]) + 60 - now}
end
redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1])
redis.call('EXPIRE', KEYS[1], 120)
return {'', 0}
"""
"""Counts something by its name within a minute, once however often it comes."""

RENEW = """
local ends = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1])
local lost = {}
for at = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[at]) then
    redis.call('ZADD', KEYS[1], ends, ARGV[at])
  else
    lost[#lost + 1] = at - 2
  end
end
redis.call('EXPIRE', KEYS[1], 7200)
return lost
"""
"""Renews places and tells which of them are no longer there, by their position."""

RESTORE = """
redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1]), ARGV[2])
redis.call('EXPIRE', KEYS[1], 7200)
return 1
"""
"""Takes a place again that Redis has lost, or never had because it was away; nothing is asked."""
