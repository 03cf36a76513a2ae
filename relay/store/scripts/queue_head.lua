-- Reads the first elements of a queue, cut to a size. Read only.
--
-- @key LISTS...  the lists that hold them, in the order in which they are fetched
-- ARGV   1 how many elements, 2 bytes of each, 3 bytes after which no further one is read
-- reply  {number of the list, size, beginning of the element, …}
--
-- In Redis, because elements may be large. One at a time, because each may have 100 megabytes.

local most, longest, full = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local reply, size = {}, 0
for list = 1, #LISTS do
  local index = 0
  while #reply < 3 * most and size < full do
    local element = redis.call('LRANGE', LISTS[list], index, index)[1]
    if not element then break end
    size, index = size + #element, index + 1
    reply[#reply + 1] = list
    reply[#reply + 1] = #element
    reply[#reply + 1] = string.sub(element, 1, longest)
  end
end
return reply
