-- @include records
-- @include ready
-- @include due_at
-- @include group_member

-- A message with an ordering key has ended: lets the next one of its key go.
local function pass_turn(ticket, key, lifo)
  -- @include oldest_members
  if call('HGET', ORDERING, key) ~= ticket then
    call('ZREM', BLOCKED, group_member(key, ticket))
    return
  end
  while true do
    local member = oldest_members(BLOCKED, key, 1)[1]
    if not member then
      call('HDEL', ORDERING, key)
      return
    end
    call('ZREM', BLOCKED, member)
    local next_ticket = ticket_of(member)
    local record = call('HGET', BODIES, next_ticket)
    if record then
      call('HSET', ORDERING, key, next_ticket)
      local header = header_of(record)
      if header.deliver and header.deliver > NOW then
        call('ZADD', DUE, due_at(header, header.deliver), next_ticket)
      else
        to_head(next_ticket, lifo, header)
      end
      return
    end
  end
end
