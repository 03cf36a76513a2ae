-- Gives the elements that a worker had taken back to the head of their queue, in their order.
--
-- KEYS   1 elements that blocking waits have moved off the queue: the next to be taken, 2 the processing
--        list, 3 the number of the batch on it, 4 the batches that are out
-- ARGV   1 the worker, 2 the most elements to move in this call
-- reply  elements left to move
--
-- Atomic because an element must always be on one of the lists.

-- Reads of all keys come before the first write that moves anything (see parts/lane.lua); ZREM comes first of the
-- writes, so that under maxmemory the rest is not refused.
local elements = redis.call('LRANGE', KEYS[2], -tonumber(ARGV[2]), -1)
redis.call('LLEN', KEYS[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if #elements > 0 then
  local reversed = {}
  for index = #elements, 1, -1 do reversed[#reversed + 1] = elements[index] end
  redis.call('LPUSH', KEYS[1], unpack(reversed))
  redis.call('LTRIM', KEYS[2], 0, -#elements - 1)
end
redis.call('DEL', KEYS[3])
return redis.call('LLEN', KEYS[2])
