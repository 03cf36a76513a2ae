-- A worker says that it lives.
--
-- KEYS   1 the workers, 2 their profiles, 3 those that are gone
-- ARGV   1 the worker, 2 its profile (JSON)
-- reply  1 if the fleet still counted it as living, 0 if it is new or was buried meanwhile

-- First, so that under maxmemory the rest is not refused (see lane.lua). The worker itself stays in the fleet
-- until all keys are known to have their types.
redis.call('ZREM', KEYS[1], '')
local known = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[2])
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if known == 0 then redis.call('ZREM', KEYS[3], ARGV[1]) end
return known
