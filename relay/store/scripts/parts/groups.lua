-- Groups: messages that wait for their ordering key (BLOCKED) or for their destination (DEFERRED).
-- @include numbers
-- @include records
-- @include ready

-- A member of BLOCKED or DEFERRED: by its group, then by its age.
local function group_member(group, ticket)
  return #group .. ':' .. group .. ':' .. string.format('%016.0f', ticket)
end

local function oldest_members(key, group, most)
  local prefix = #group .. ':' .. group .. ':'
  return call('ZRANGEBYLEX', key, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, most)
end

local function ticket_of(member)
  return whole(string.sub(member, -16))
end

-- From when on it is worth looking at a message: when it may go, or has expired before that.
local function due_at(header, at)
  return header.expires > 0 and math.min(at, header.expires) or at
end

-- Puts a message that may go on into DUE, if its time has not come, or else into its list.
local function admit(ticket, header, lifo)
  if header.deliver > NOW then
    call('ZADD', DUE, due_at(header, header.deliver), ticket)
  else
    to_head(ticket, lifo)
  end
end

-- The message has ended: lets the next one of its ordering key go.
local function pass_turn(ticket, header, lifo)
  local key = header.ordering_key
  if key == '' then return end
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
      admit(next_ticket, header_of(record), lifo)
      return
    end
  end
end
