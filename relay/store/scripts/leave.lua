-- Removes a worker that has left the fleet, or was recovered.
--
-- @key WORKERS  sorted set: worker by its last heartbeat
-- @key GONE     sorted set: workers that left or were recovered
-- @key DRAINS   hash: worker -> the order of an operator to take no messages
-- ARGV   1 the worker
-- reply  1
--
-- Atomic because it must be in one of the two, and first the writes that are never refused (see parts/lane.lua).

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZREM', WORKERS, '')
redis.call('ZADD', GONE, now, ARGV[1])
redis.call('ZREM', WORKERS, ARGV[1])
redis.pcall('HDEL', DRAINS, ARGV[1])
return 1
