-- Puts a ticket where the next claim takes it first. A message with a group waits among those of its group, by age.
local function to_head(ticket, lifo, header)
  -- @if groups
  if header and header.group then
    -- @include wait_in_group
    return wait_in_group(ticket, header.group)
  end
  -- @end
  call(lifo and 'RPUSH' or 'LPUSH', READY[ticket % 4 + 1], ticket)
end
