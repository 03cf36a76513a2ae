-- A worker says that it lives.
--
-- KEYS   1 the workers, 2 their profiles, 3 those that are gone
-- ARGV   1 the worker, 2 its profile (JSON)
-- reply  1 if the fleet still counted it as living, 0 if it is new or was buried meanwhile

-- First, so that under maxmemory the rest is not refused (see lane.lua).
local known = redis.call('ZREM', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if known == 0 then redis.call('ZREM', KEYS[3], ARGV[1]) end
return known
