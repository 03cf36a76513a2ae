-- @include numbers
-- @include oldest_members

-- How long the oldest message has been in the lane that may go as far as its own times allow (ms): a ticket's number runs
-- with the clock. With groups, of a sample of them.
local function oldest_age()
  local oldest
  local function consider(ticket)
    ticket = tonumber(ticket)
    if ticket and (not oldest or ticket < oldest) then oldest = ticket end
  end
  for level = 1, 3 do
    -- New ones come at one end, and those that wait again at the other, whichever the order is.
    consider(call('LRANGE', READY[level], 0, 0)[1])
    consider(call('LRANGE', READY[level], -1, -1)[1])
    consider(call('LRANGE', FAN_OUTS[level], 0, 0)[1])
    for _, member in ipairs(call('ZRANDMEMBER', WAITING[level], SAMPLED_MEMBERS)) do
      local length = tonumber(string.match(member, '^%d+'))
      local start = string.find(member, ':', 1, true) + 1
      local first = oldest_members(WAITING[level], string.sub(member, start, start + length - 1), 1)[1]
      if first then consider(ticket_of(first)) end
    end
  end
  if not oldest then return 0 end
  return math.max(0, NOW - math.floor(oldest / 4) / NUMBERS_A_MILLISECOND)
end
