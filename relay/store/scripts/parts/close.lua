-- @include fan_out

-- Ends a message that has a header: forgets its id and keys, and writes its receipt. The caller removes the
-- body. `ticket` is a string. Returns how many deliveries end with it: for a fan-out those that are not yet
-- messages of their own, else 1.
local function close(ticket, header, outcome, reason, attempts, lifo)
  if header.part_of ~= '' then
    local fan = fan_out(header.part_of)
    if fan then tally(header.part_of, fan, outcome, 1, lifo) end
    return 1
  elseif header.targets > 0 then
    return stop_fan_out(ticket, outcome, lifo)
  end
  forget(ticket, header, lifo)
  receipt(header, outcome, reason, attempts)
  return 1
end
