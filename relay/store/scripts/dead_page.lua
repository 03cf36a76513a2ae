-- Reads a page of dead letters. Read only.
--
-- @key STREAM  the dead letters
-- ARGV   1 id after which the page begins, '' for the first one
--        2 the most letters, 3 bytes after which the page is full
--        4 bytes of a malformed element that are read; the rest is cut off
-- reply  {{id, length of the raw element, field, value, …}, …}
--
-- A script, because an element may be a thousand times as large as a page: it is cut before it travels.

local after, most, full, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local page, size = {}, 0
local start = after == '' and '-' or '(' .. after
while #page < most and size < full do
  local entry = redis.call('XRANGE', STREAM, start, '+', 'COUNT', 1)[1]
  if not entry then break end
  local id, fields = entry[1], entry[2]
  local letter = {id, 0}
  for index = 1, #fields, 2 do
    local value = fields[index + 1]
    if fields[index] == 'raw' then
      letter[2] = #value
      value = string.sub(value, 1, longest)
    end
    letter[#letter + 1] = fields[index]
    letter[#letter + 1] = value
    size = size + #value
  end
  page[#page + 1] = letter
  start = '(' .. id
end
return page
