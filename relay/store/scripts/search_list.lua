-- Finds elements of a queue's list that contain a text, in one page. Read only.
--
-- @key LIST  elements, raw
-- ARGV   1 index of the first element, 2 of the last one, 3 the text, 4 the most bytes of an element that are searched
--        5 bytes after which the page is full
-- reply  {number of elements in the page, index, element, …}
--
-- In Redis, because elements may be large, and few match. One at a time, because each may have 100 megabytes.

local index, last, text = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local longest, full = tonumber(ARGV[4]), tonumber(ARGV[5])
local reply, size = {0}, 0
while index <= last and size < full do
  local element = redis.call('LRANGE', LIST, index, index)[1]
  if not element then break end
  reply[1], size = reply[1] + 1, size + #element
  if #element <= longest and string.find(element, text, 1, true) then
    reply[#reply + 1] = index
    reply[#reply + 1] = element
  end
  index = index + 1
end
return reply
