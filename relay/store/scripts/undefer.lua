-- Moves the oldest element that waits for a lane to the staged list, so that it is fetched like a new one.
--
-- @key DEFERRED  list: elements that wait for the lane
-- @key STAGED    list: elements that blocking waits have moved off the queue
-- reply  1, or 0 if nothing waits
--
-- Atomic because an element must always be on one of the lists.

redis.call('LLEN', STAGED)
local element = redis.call('LPOP', DEFERRED)
if not element then return 0 end
redis.call('RPUSH', STAGED, element)
return 1
