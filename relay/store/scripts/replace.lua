-- Replaces a string if it still has the value that the caller has read.
--
-- @key VALUE
-- ARGV   1 the value that was read, '' if there was none; 2 the new value
-- reply  1 if it was replaced, otherwise 0
--
-- Under maxmemory Redis refuses SET, unless the script has written before: so it deletes the old value first.

if (redis.call('GET', VALUE) or '') ~= ARGV[1] then return 0 end
redis.call('DEL', VALUE)
redis.call('SET', VALUE, ARGV[2])
return 1
