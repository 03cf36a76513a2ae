-- @include whole

local function oldest_members(key, group, most)
  local prefix = #group .. ':' .. group .. ':'
  return call('ZRANGEBYLEX', key, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, most)
end

local function ticket_of(member)
  local digits = string.sub(member, -16)
  return string.byte(digits) == 48 and whole(digits) or digits
end
