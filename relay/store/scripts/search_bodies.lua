-- Finds messages of a lane whose record contains a text, in one page of a scan. Read only.
--
-- ARGV   1 cursor ('0' to begin), 2 about how many records to look at, 3 the text, 4 the most messages to return
--        5 bytes after which the page is full
-- reply  {next cursor ('0': that was all), records that were looked at, ticket, …}
--
-- In Redis, because a lane may have millions of messages, of which few match. In small steps, because each record may
-- have a megabyte.

local STEP = 10 -- records

local cursor, records, text, most, full = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local number, size, tickets = 0, 0, {}
repeat
  local page = redis.call('HSCAN', BODIES, cursor, 'COUNT', STEP)
  local fields = page[2]
  cursor = page[1]
  for index = 1, #fields, 2 do
    local record = fields[index + 1]
    number, size = number + 1, size + #record
    if #tickets < most and string.find(record, text, 1, true) then tickets[#tickets + 1] = fields[index] end
  end
until cursor == '0' or number >= records or size >= full
return {cursor, number, unpack(tickets)}
