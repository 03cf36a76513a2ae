-- Finds messages of a lane whose record contains a text, in one page of a scan. Read only.
--
-- ARGV   1 cursor ('0' to begin), 2 about how many records to look at, 3 the text, 4 the most messages to return
-- reply  {next cursor ('0': that was all), ticket, …}
--
-- In Redis, because a lane may have millions of messages, of which few match.

local page = redis.call('HSCAN', BODIES, ARGV[1], 'COUNT', ARGV[2])
local reply, most, fields = {page[1]}, tonumber(ARGV[4]), page[2]
for index = 1, #fields, 2 do
  if #reply <= most and string.find(fields[index + 1], ARGV[3], 1, true) then reply[#reply + 1] = fields[index] end
end
return reply
