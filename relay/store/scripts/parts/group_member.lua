-- Groups: messages that wait for their ordering key (BLOCKED) or for their destination (DEFERRED). A member of one
-- is sorted by its group, then by its age.
local function group_member(group, ticket)
  return #group .. ':' .. group .. ':' .. string.format('%016.0f', ticket)
end
