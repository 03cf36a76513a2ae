-- @include group_member
-- @include group_state

-- Puts a message among those that wait for the turn of their group, and the group in the rotation unless it is out.
local function wait_in_group(ticket, group)
  local level = ticket % 4 + 1
  call('HSET', CONTROL, 'grouped', '1')
  call('ZADD', WAITING[level], 0, group_member(group, ticket))
  local packed = call('HGET', GROUPS, group)
  local state = packed and state_of(packed)
  if not (state and state.out) then call('ZADD', ROTATION[level], 0, group) end
end
