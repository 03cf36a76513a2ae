-- The oldest letters of a lane's outbox.
--
-- @key OUTBOX
-- ARGV   1 the most letters
-- reply  {Redis's clock in Unix milliseconds, letters as XRANGE gives them}
--
-- Atomic because a letter may only be forwarded for so long after it was seen here.

local time = redis.call('TIME')
return {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000),
        redis.call('XRANGE', OUTBOX, '-', '+', 'COUNT', ARGV[1])}
