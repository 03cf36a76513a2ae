-- Lets the oldest element that waits for a lane be taken again like a new one.
--
-- KEYS   1 the elements that wait for the lane, 2 elements that blocking waits have moved off the queue
-- reply  1, or 0 if nothing waits
--
-- Atomic because an element must always be on one of the lists.

redis.call('LLEN', KEYS[2])
local element = redis.call('LPOP', KEYS[1])
if not element then return 0 end
redis.call('RPUSH', KEYS[2], element)
return 1
