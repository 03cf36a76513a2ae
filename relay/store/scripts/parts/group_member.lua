-- Sorted sets of tickets by name: messages that wait for their ordering key (BLOCKED) or for the turn of their group
-- (WAITING). Members are sorted by the name, then by age.
local function sixteen_digits(ticket)
  return #ticket == 16 and ticket or string.format('%016.0f', ticket)
end

local function start_of_members(group)
  return #group .. ':' .. group .. ':'
end

local function group_member(group, ticket)
  return start_of_members(group) .. sixteen_digits(ticket)
end
