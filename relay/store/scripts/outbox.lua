-- The oldest letters of a lane's outbox.
--
-- KEYS   1 the outbox
-- ARGV   1 the most letters
-- reply  {Redis's clock in Unix milliseconds, letters as XRANGE gives them}
--
-- Atomic because a letter may only be carried for so long after it was seen here.

local time = redis.call('TIME')
return {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000),
        redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])}
