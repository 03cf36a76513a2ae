-- The targets of fan-outs that end in a settle: each fan-out is read and written once.
local ended_fan_outs = {} -- their tickets
local ended_of, unread_of = {}, {} -- by fan-out: outcome -> number; tickets whose records nobody has read

local function end_targets(part_of, outcome, number)
  if not ended_of[part_of] then
    ended_fan_outs[#ended_fan_outs + 1] = part_of
    ended_of[part_of], unread_of[part_of] = {}, {}
  end
  ended_of[part_of][outcome] = (ended_of[part_of][outcome] or 0) + number
end

-- A target was delivered whose record nobody has read: the worker named its fan-out.
local function deliver_unread(part_of, ticket)
  end_targets(part_of, 'delivered', 0)
  table.insert(unread_of[part_of], ticket)
end

-- Writes all of them. Returns how many deliveries were already counted, for a worker that had the message before: its
-- body is gone.
local function save_ended_targets(lifo)
  -- @include fan_out
  local known = 0
  for _, part_of in ipairs(ended_fan_outs) do
    local outcomes_of, unread, fan = ended_of[part_of], unread_of[part_of], fan_out(part_of)
    if #unread > 0 then
      local number = call('HDEL', BODIES, unpack(unread))
      if some_tried then call('HDEL', TRIES, unpack(unread)) end
      outcomes_of.delivered = outcomes_of.delivered + number
      known = known + #unread - number
    end
    for outcome, number in pairs(fan and outcomes_of or {}) do
      if number > 0 then tally(part_of, fan, outcome, number, lifo) end
    end
  end
  return known
end
