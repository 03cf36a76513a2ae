-- Records that a worker lives.
--
-- @key WORKERS   sorted set: worker by its last heartbeat
-- @key PROFILES  hash: worker -> JSON about it
-- @key GONE      sorted set: workers that left or were recovered
-- @key SCRATCH   a key that exists only during the call
-- @key RELOAD    string: the last request of an operator to reload
-- @key DRAINS    hash: worker -> the order of an operator to take no messages (JSON)
-- ARGV   1 the worker, 2 its profile (JSON)
-- reply  {1 if the fleet still counted it as living, 0 if it is new or was recovered meanwhile; the request to reload;
--        the order to drain; '' if there is none}

-- First, so that under maxmemory the rest is not refused (see parts/lane.lua). The worker itself stays in the fleet
-- until all keys are known to have their types.
redis.call('ZREM', WORKERS, '')
local known = redis.call('ZSCORE', WORKERS, ARGV[1]) and 1 or 0
redis.call('ZCARD', GONE)
redis.call('HLEN', PROFILES)

-- A script that lacks the right to a command fails halfway, and is not rolled back. So a worker tries all commands
-- of all scripts when it joins, before it takes anything.
local COMMANDS = {
  {'HSET', 'a', '1'}, {'HSETNX', 'a', '1'}, {'HINCRBY', 'a', 1}, {'HGET', 'a'}, {'HMGET', 'a'}, {'HKEYS'}, {'HLEN'},
  {'HGETALL'}, {'HEXISTS', 'a'}, {'HDEL', 'a'},
  {'RPUSH', 'a'}, {'LPUSH', 'a'}, {'LLEN'}, {'LRANGE', 0, 0}, {'LTRIM', 0, 1}, {'LPOP'}, {'RPOP'},
  {'ZADD', 1, 'a'}, {'ZCARD'}, {'ZCOUNT', 0, 1}, {'ZSCORE', 'a'}, {'ZRANGE', 0, 0}, {'ZRANGEBYLEX', '-', '+'},
  {'ZREVRANGEBYLEX', '+', '-'}, {'ZLEXCOUNT', '-', '+'}, {'ZRANDMEMBER', 1},
  {'ZRANGEBYSCORE', 0, 1}, {'ZREMRANGEBYSCORE', 0, 0}, {'ZREMRANGEBYRANK', 1, 1}, {'ZREM', 'a'},
  {'XADD', '*', 'a', 'b'}, {'XLEN'}, {'XRANGE', '-', '+'}, {'XREVRANGE', '+', '-'}, {'XDEL', '0-1'}, {'XTRIM', 'MAXLEN', 1}, {'DEL'},
  {'SET', 'a'}, {'GET'}, {'EXPIRE', 1}, {'EXISTS'}, {'TYPE'}, {'DEL'},
}
if known == 0 then
  redis.call('DEL', SCRATCH)
  for _, command in ipairs(COMMANDS) do
    local reply = redis.pcall(command[1], SCRATCH, unpack(command, 2))
    if type(reply) == 'table' and reply.err then
      redis.call('DEL', SCRATCH)
      return redis.error_reply('NOPERM ' .. command[1] .. ' is needed: ' .. reply.err)
    end
  end
end

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZADD', WORKERS, now, ARGV[1])
redis.call('HSET', PROFILES, ARGV[1], ARGV[2])
if known == 0 then redis.call('ZREM', GONE, ARGV[1]) end
-- A key of a wrong type must not end the heartbeats.
local request, drain = redis.pcall('GET', RELOAD), redis.pcall('HGET', DRAINS, ARGV[1])
return {known, type(request) == 'string' and request or '', type(drain) == 'string' and drain or ''}
