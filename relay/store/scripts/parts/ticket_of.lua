-- @include whole

-- The ticket in a member of BLOCKED or WAITING.
local function ticket_of(member)
  local digits = string.sub(member, -16)
  return string.byte(digits) == 48 and whole(digits) or digits
end
