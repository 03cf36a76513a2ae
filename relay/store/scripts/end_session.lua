-- Remembers that a session of the console was ended, until it would have ended anyway.
--
-- @key ENDED  sorted set: session by the Unix second of its natural end
-- ARGV   1 the session, 2 its natural end, 3 how many sessions are remembered
-- reply  1
--
-- Under maxmemory Redis refuses ZADD, unless the script has written before: so it forgets first.

redis.call('ZREMRANGEBYSCORE', ENDED, '-inf', redis.call('TIME')[1])
redis.call('ZADD', ENDED, ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', ENDED, 0, -1 - ARGV[3])
redis.call('EXPIRE', ENDED, 86400)
return 1
