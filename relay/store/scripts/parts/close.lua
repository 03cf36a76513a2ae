-- @include forget
-- @include receipt

-- Fan-outs have functions of their own, made at the first message that needs them.
local close_fan_out
local function load_close_fan_out()
  -- @include fan_out
  return function(ticket, header, outcome, lifo)
    if header.targets then return stop_fan_out(ticket, outcome, lifo) end
    local fan = fan_out(header.part_of)
    if fan then tally(header.part_of, fan, outcome, 1, lifo) end
    return 1
  end
end

-- Ends a message that has a header: forgets its id and keys, and writes its receipt. The caller removes the
-- body. `ticket` is a string. Returns how many deliveries end with it: for a fan-out those that are not yet
-- messages of their own, else 1. `status` and `provider_id`: see receipt.lua.
local function close(ticket, header, outcome, reason, attempts, lifo, status, provider_id)
  if header.targets or header.part_of then
    close_fan_out = close_fan_out or load_close_fan_out()
    return close_fan_out(ticket, header, outcome, lifo)
  end
  forget(ticket, header, lifo)
  receipt(header, outcome, reason, attempts, nil, status, provider_id)
  return 1
end
