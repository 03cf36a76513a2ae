-- Sorted sets of tickets by name: messages that wait for their ordering key (BLOCKED) or for the turn of their group
-- (WAITING). Members are sorted by the name, then by age.
local function group_member(group, ticket)
  local digits = #ticket == 16 and ticket or string.format('%016.0f', ticket)
  return #group .. ':' .. group .. ':' .. digits
end
