-- Sorted sets of tickets by name: messages that wait for their ordering key (BLOCKED) or for the turn of their group
-- (WAITING). Members are sorted by the name, then by age.
local function group_member(group, ticket)
  return #group .. ':' .. group .. ':' .. string.format('%016.0f', ticket)
end
