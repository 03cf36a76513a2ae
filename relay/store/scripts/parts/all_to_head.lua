-- @include ready

-- Puts messages, each {ticket, header}, where the next claim takes them first; the last one goes before the others.
local function all_to_head(messages, lifo)
  -- @if groups
  -- @include group_waiting
  local waiting = {}
  -- @end
  for _, message in ipairs(messages) do
    local ticket, header = message[1], message[2]
    -- @if groups
    if header and header.group then
      add_waiting(waiting, ticket % 4 + 1, header.group, ticket)
      ticket = nil
    end
    -- @end
    if ticket then to_head(ticket, lifo, header) end
  end
  -- @if groups
  save_waiting(waiting)
  -- @end
end
