-- Writes fields of the control hash, also if Redis is out of memory (see parts/lane.lua).
--
-- ARGV   field, value, …
-- reply  1

redis.call('HDEL', CONTROL, '')
redis.call('HSET', CONTROL, unpack(ARGV))
return 1
