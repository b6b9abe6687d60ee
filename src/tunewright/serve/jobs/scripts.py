"""Every change of a job's record as one atomic script on the broker, so that no two writers can disagree.

Times are the broker's own clock, in milliseconds since 1970: workers on other machines may have another. A record's
status goes queued -> running -> done | failed | cancelled, and back from running to queued when its worker is lost.
"""

from __future__ import annotations

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
_ENDED = """
local function ended(status) return status == 'done' or status == 'failed' or status == 'cancelled' end
"""

CREATE = (
    _NOW
    + """
-- KEYS: job, active, idempotency; ARGV: id, capacity, idempotency value or '', its ms, field, value, ...
if ARGV[3] ~= '' then
  local known = redis.call('GET', KEYS[3])
  if known then return {'known', known} end
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return {'full', ''} end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'status', 'queued', 'created', now, 'queued', now, 'runs', 0)
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4]) end
return {'made', ARGV[1]}
"""
)

CLAIM = (
    _NOW
    + _ENDED
    + """
-- KEYS: job, running; ARGV: id, owner, lease ms
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'gone' end
if ended(status) then return status end
local lease = tonumber(redis.call('HGET', KEYS[1], 'lease') or '0')
if status == 'running' and lease > now and redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 'taken' end
redis.call('HSET', KEYS[1], 'status', 'running', 'owner', ARGV[2], 'lease', now + ARGV[3])
redis.call('HSETNX', KEYS[1], 'started', now)
redis.call('HINCRBY', KEYS[1], 'runs', 1)
redis.call('SADD', KEYS[2], ARGV[1])
return 'yours'
"""
)

BEAT = (
    _NOW
    + """
-- KEYS: job; ARGV: owner, lease ms
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'lease', now + ARGV[2])
return 1
"""
)

RELEASE = (
    _NOW
    + """
-- KEYS: job, running; ARGV: id, owner
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'queued', now, 'lease', 0)
redis.call('SREM', KEYS[2], ARGV[1])
return 1
"""
)

FINISH = (
    _NOW
    + _ENDED
    + """
-- KEYS: job, active, running, stats, hooks; ARGV: id, status, field, value, ttl ms
local status = redis.call('HGET', KEYS[1], 'status')
if not status or ended(status) then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[2], ARGV[3], ARGV[4], 'finished', now)
redis.call('HINCRBY', KEYS[1], 'writes', 1)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[4], ARGV[2], 1)
if (redis.call('HGET', KEYS[1], 'webhook') or '') ~= '' then
  redis.call('HSET', KEYS[1], 'webhook_state', 'pending')
  redis.call('ZADD', KEYS[5], now, ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
)

REQUEUE = (
    _NOW
    + """
-- KEYS: job, running; ARGV: id, ms after which a queued job counts as lost, or 0
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'running' and tonumber(redis.call('HGET', KEYS[1], 'lease')) < now then
  redis.call('HSET', KEYS[1], 'status', 'queued', 'queued', now)
  redis.call('SREM', KEYS[2], ARGV[1])
  return 1
end
local idle = tonumber(ARGV[2])
if status == 'queued' and idle > 0 and redis.call('HGET', KEYS[1], 'queued') + idle < now then
  redis.call('HSET', KEYS[1], 'queued', now)
  return 1
end
return 0
"""
)

DUE_HOOKS = (
    _NOW
    + """
-- KEYS: hooks; ARGV: ms until it is due again, most
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], id) end
return due
"""
)

HOOK_TRIED = (
    _NOW
    + """
-- KEYS: job, hooks; ARGV: id, new state, ms until the next try
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'webhook_state', ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'webhook_tries', 1)
end
if ARGV[2] == 'pending' then redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
else redis.call('ZREM', KEYS[2], ARGV[1]) end
return 1
"""
)
