-- Gives the elements that a worker had taken back to the head of their queue, in their order.
--
-- KEYS   1 the application's list, 2 the processing list, 3 the worker's turn
-- ARGV   1 the most elements to move in this call
-- reply  elements left to move
--
-- Atomic because an element must always be on one of the two lists.

local elements = redis.call('LRANGE', KEYS[2], -tonumber(ARGV[1]), -1)
if #elements > 0 then
  local reversed = {}
  for index = #elements, 1, -1 do reversed[#reversed + 1] = elements[index] end
  redis.call('LPUSH', KEYS[1], unpack(reversed))
  redis.call('LTRIM', KEYS[2], 0, -#elements - 1)
end
redis.call('DEL', KEYS[3])
return redis.call('LLEN', KEYS[2])
