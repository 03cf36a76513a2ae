-- Hides a worker that is gone from operators.
--
-- @key WORKERS   sorted set: worker by its last heartbeat
-- @key PROFILES  hash: worker -> JSON about it
-- @key GONE      sorted set: workers that left or were recovered
-- ARGV   1 the worker, 2 the millisecond of its last heartbeat as the operator saw it; '' if it is among those that
--        left, 3 its profile that hides it (JSON)
-- reply  1, or 0 if it has sent a heartbeat meanwhile, or is unknown
--
-- Atomic because a worker that comes back to life must not be hidden.

-- First the writes that are never refused (see parts/lane.lua).
redis.call('ZREM', WORKERS, '')
local seen = redis.call('ZSCORE', WORKERS, ARGV[1])
if ARGV[2] == '' then
  if seen or not redis.call('ZSCORE', GONE, ARGV[1]) then return 0 end
else
  if not seen or tonumber(seen) ~= tonumber(ARGV[2]) then return 0 end
  redis.call('ZADD', GONE, seen, ARGV[1])
  redis.call('ZREM', WORKERS, ARGV[1])
end
redis.call('HSET', PROFILES, ARGV[1], ARGV[3])
return 1
