-- @include whole

-- A number is never given to two batches, or a lane would take the second for the first: it follows the clock, because a
-- failover may have undone LAST_SEQUENCE, and LAST_SEQUENCE, because the clock may have been set back.
local function next_batch_number(last)
  local time = call('TIME')
  return whole(math.max(time[1] * 1000000 + time[2], (last or 0) + 1))
end
