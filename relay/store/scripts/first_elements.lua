-- Reads the first element of some lists in one slot, for the age of a queue. Read only.
--
-- @key LISTS...  the lists
-- ARGV   1 bytes: a larger element is not returned
-- reply  an element for each list; '' if the list is empty or begins with a larger one
--
-- A script, because the size of an element is known only after it was read: one of 100 MB must not leave Redis.

local most = tonumber(ARGV[1])
local reply = {}
for index = 1, #LISTS do
  local first = redis.call('LRANGE', LISTS[index], 0, 0)[1] or ''
  reply[index] = #first <= most and first or ''
end
return reply
