-- Numbers that only grow: tickets and fencing tokens. Redis itself may forget the last seconds when it crashes or
-- fails over, while workers do not; so both run ahead with its clock.

local NUMBERS_A_MILLISECOND = 200

-- @include whole

-- The last number that may be in use, if `stored` is the last one that is known to be.
local function last_number(stored)
  return math.max(tonumber(stored or 0) or 0, NOW * NUMBERS_A_MILLISECOND)
end

-- The last number before `total` new ones.
local function reserve_numbers(field, total)
  local last = last_number(call('HGET', CONTROL, field))
  call('HSET', CONTROL, field, whole(last + total))
  return last
end
