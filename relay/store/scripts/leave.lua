-- A worker has left the fleet, or was buried.
--
-- KEYS   1 the workers, 2 those that are gone
-- ARGV   1 the worker
-- reply  1
--
-- Atomic because it must be in one of the two, and first what is never refused (see parts/lane.lua).

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
