-- @include whole

local function oldest_members(key, group, most)
  local prefix = #group .. ':' .. group .. ':'
  return call('ZRANGEBYLEX', key, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, most)
end

local function ticket_of(member)
  return whole(string.sub(member, -16))
end
