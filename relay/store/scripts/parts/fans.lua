-- The state of a fan-out: see fan_out.lua.
local function fan_out(ticket)
  local packed = call('HGET', FANS, ticket)
  return packed and cmsgpack.unpack(packed)
end

local function save_fan_out(ticket, fan)
  call('HSET', FANS, ticket, cmsgpack.pack(fan))
end

-- Counts targets of a fan-out that have ended. Returns how many are left; if none is, the caller ends the fan-out.
local function count_ended(ticket, fan, outcome, number)
  fan.left = fan.left - number
  fan.ended[outcome] = (fan.ended[outcome] or 0) + number
  if fan.left > 0 then save_fan_out(ticket, fan) end
  return fan.left
end
