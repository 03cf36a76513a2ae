-- Asks all processes of the fleet to read their configuration files again.
--
-- @key RELOAD
-- ARGV   1 the request, 2 seconds until it is forgotten
-- reply  1
--
-- Under maxmemory Redis refuses SET, unless the script has written before: so it deletes the old request first.

redis.call('DEL', RELOAD)
redis.call('SET', RELOAD, ARGV[1], 'EX', ARGV[2])
return 1
