-- Takes a lock that expires.
--
-- @key LOCK
-- ARGV   1 who takes it, 2 for how many milliseconds
-- reply  1 if it was free, 0 if somebody holds it; an error if the key is not a lock of relay's, because it
--        would never end
--
-- A script, and not SET with NX, because that is refused under maxmemory (see parts/lane.lua).

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', LOCK).ok
if kind ~= 'none' then
  -- The value says when it ends, so that no value of somebody else's is taken for a lock.
  local ends = kind == 'string' and tonumber(string.match(redis.call('GET', LOCK), ' (%d+)$'))
  if ends and ends > now then return 0 end
  if not ends then
    return redis.error_reply('WRONGTYPE ' .. LOCK .. ' is a ' .. kind .. ' that never ends instead of a lock'
                             .. ' of relay: find out who wrote it, then DEL it')
  end
end
redis.call('DEL', LOCK)
redis.call('SET', LOCK, string.format('%s %.0f', ARGV[1], now + tonumber(ARGV[2])), 'PX', ARGV[2])
return 1
