-- Takes a lock that ends by itself.
--
-- KEYS   1 the lock
-- ARGV   1 who takes it, 2 for how many milliseconds
-- reply  1 if it was free, 0 if somebody holds it; an error if the key is not a lock that ends
--
-- A script, and not SET with NX, because that is refused under maxmemory (see lane.lua).

if redis.call('EXISTS', KEYS[1]) == 1 then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'string' and redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
  return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is a ' .. kind .. ' that never ends instead of a lock'
                           .. ' of relay: find out who wrote it, then DEL it')
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
