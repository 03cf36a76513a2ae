-- @include whole
-- @include ticket_of

local function oldest_members(key, group, most)
  local prefix = #group .. ':' .. group .. ':'
  return call('ZRANGEBYLEX', key, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, most)
end
