-- Gives the elements that a worker had taken back to the head of their queue, in their order.
--
-- @key STAGED       elements that blocking waits have moved off the queue: the next to be fetched
-- @key PROCESSING   the processing list of the worker
-- @key SEQUENCE     the number of the batch on it
-- @key OUTSTANDING  sorted set: worker by the number of its batch that is not yet in its lanes
-- ARGV   1 the worker, 2 the most elements to move in this call
-- reply  elements left to move
--
-- Atomic because an element must always be on one of the lists.

-- Reads of all keys come before the first write that moves anything (see parts/lane.lua); ZREM comes first of the
-- writes, so that under maxmemory the rest is not refused.
local elements = redis.call('LRANGE', PROCESSING, -tonumber(ARGV[2]), -1)
redis.call('LLEN', STAGED)
redis.call('ZREM', OUTSTANDING, ARGV[1])
if #elements > 0 then
  local reversed = {}
  for index = #elements, 1, -1 do reversed[#reversed + 1] = elements[index] end
  redis.call('LPUSH', STAGED, unpack(reversed))
  redis.call('LTRIM', PROCESSING, 0, -#elements - 1)
end
redis.call('DEL', SEQUENCE)
return redis.call('LLEN', PROCESSING)
