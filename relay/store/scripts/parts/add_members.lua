-- @include large

-- Adds members to a sorted set: score, member, …
local function add_members(key, members)
  if #members < 2 * FEW then
    if #members > 0 then call('ZADD', key, unpack(members)) end
    return
  end
  call('ZADD', key, '0', LONG_FIELD, unpack(members))
  call('ZREM', key, LONG_FIELD)
end
