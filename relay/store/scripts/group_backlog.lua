-- Reads the backlog of some groups of a lane. Read only.
--
-- @key WAITING...  the sorted sets of waiting messages, by priority
-- ARGV   the names of the groups
-- reply  {messages, ticket of the oldest one ('' if none waits), …}: two for each group
--
-- A script, because several commands for each of a thousand groups would cost the process more than the numbers are
-- worth.

local call = redis.call
local reply = {}
for _, name in ipairs(ARGV) do
  local prefix = #name .. ':' .. name .. ':'
  local low, high = '[' .. prefix, '[' .. prefix .. '\255'
  local messages, oldest = 0, ''
  for level = 1, #WAITING do
    local found = call('ZLEXCOUNT', WAITING[level], low, high)
    if found > 0 then
      messages = messages + found
      local first = call('ZRANGEBYLEX', WAITING[level], low, high, 'LIMIT', 0, 1)[1]
      local ticket = string.sub(first, #prefix + 1)
      if oldest == '' or ticket < oldest then oldest = ticket end
    end
  end
  reply[#reply + 1] = messages
  reply[#reply + 1] = oldest
end
return reply
