-- Finds elements of a queue's list that contain a text, in one page. Read only.
--
-- @key LIST  elements, raw
-- ARGV   1 index of the first element, 2 of the last one, 3 the text, 4 the most bytes of an element that are searched
-- reply  {number of elements in the page, index, element, …}
--
-- In Redis, because elements may be large, and few match.

local page = redis.call('LRANGE', LIST, ARGV[1], ARGV[2])
local reply, longest = {#page}, tonumber(ARGV[4])
for index, element in ipairs(page) do
  if #element <= longest and string.find(element, ARGV[3], 1, true) then
    reply[#reply + 1] = ARGV[1] + index - 1
    reply[#reply + 1] = element
  end
end
return reply
