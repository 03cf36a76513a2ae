-- Takes a lock that ends by itself.
--
-- KEYS   1 the lock
-- ARGV   1 who takes it, 2 for how many milliseconds
-- reply  1 if it was free
--
-- A script, and not SET with NX, because that is refused under maxmemory (see lane.lua).

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
