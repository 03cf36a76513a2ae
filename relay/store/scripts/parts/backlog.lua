-- Limits of the backlog: of the lane, and of each group.
-- @include close
-- @include journal
-- @if groups
-- @include oldest_members
-- @end

-- @if groups
local SAMPLE = 5 -- messages, to find a large group
-- @end

if policy.max_backlog > 0 then
  capacity = policy.max_backlog - count_ready() - call('ZCARD', DUE) - call('ZCARD', BLOCKED) - call('HLEN', SUSPECTS)
  -- @if groups
  capacity = capacity - call('ZCARD', WAITING[1]) - call('ZCARD', WAITING[2]) - call('ZCARD', WAITING[3])
  -- @end
end

-- Ends a message that waits no more in its place. Returns false if it had ended before.
local function drop(ticket)
  local record = call('HGET', BODIES, ticket)
  if not record then return false end
  local header = header_of(record)
  call('HDEL', BODIES, ticket)
  call('HDEL', TRIES, ticket)
  journal(record, 'dropped', 'the backlog is full', 0)
  dropped = dropped + (header and close(ticket, header, 'dropped', 'the backlog is full', 0, lifo) or 1)
  return true
end

-- The ticket of a cancelled message stays in its list, so it makes room without the end of another message.
local function drop_from_list(level)
  local ticket = call('LPOP', READY[level])
  if ticket then drop(ticket) end
  return ticket
end

local function drop_cancelled()
  for level = 1, 3 do
    local ticket = call('LRANGE', READY[level], 0, 0)[1]
    if ticket and call('HEXISTS', BODIES, ticket) == 0 then return drop_from_list(level) end
  end
  return false
end

-- @if groups
local function drop_from_group(level, name)
  while true do
    local member = oldest_members(WAITING[level], name, 1)[1]
    if not member then return false end
    call('ZREM', WAITING[level], member)
    if drop(ticket_of(member)) then return true end
  end
end

local function size_of(level, name)
  local prefix = #name .. ':' .. name .. ':'
  return call('ZLEXCOUNT', WAITING[level], '[' .. prefix, '[' .. prefix .. '\255')
end

-- A group with a large backlog: the largest of those that a few messages belong to, taken by chance.
local function large_group(level)
  local most, largest = 0, nil
  for _, member in ipairs(call('ZRANDMEMBER', WAITING[level], SAMPLE)) do
    local length = tonumber(string.match(member, '^%d+'))
    local start = string.find(member, ':', 1, true) + 1
    local name = string.sub(member, start, start + length - 1)
    local size = size_of(level, name)
    if size > most then most, largest = size, name end
  end
  return largest
end
-- @end

-- Ends the oldest waiting message of the lowest priority. With groups, a large group pays. Returns false if none waits.
local function drop_oldest()
  for level = 3, 1, -1 do
    if drop_from_list(level) then return true end
    -- @if groups
    local name = policy.groups and large_group(level)
    while name do
      if drop_from_group(level, name) then return true end
      name = large_group(level)
    end
    -- @end
  end
  return false
end

-- @if groups
local function drop_oldest_of(name)
  return drop_from_group(3, name) or drop_from_group(2, name) or drop_from_group(1, name)
end

local room = {} -- by group

local function has_room_in_group(name)
  room[name] = room[name] or policy.group_backlog - size_of(1, name) - size_of(2, name) - size_of(3, name)
  if room[name] <= 0 then
    flush()
    if policy.overflow == 'drop_newest' or not drop_oldest_of(name) then return false end
    room[name], capacity = room[name] + 1, capacity + 1
  end
  return true
end
-- @end

local function has_room_within_limits(header)
  -- @if groups
  local name = policy.group_backlog > 0 and header and header.group
  if name and not has_room_in_group(name) then return false end
  -- @end
  if capacity <= 0 then
    flush()
    local make_room = policy.overflow == 'drop_newest' and drop_cancelled or drop_oldest
    if not make_room() then return false end
    capacity = capacity + 1
  end
  -- @if groups
  if name then room[name] = room[name] - 1 end
  -- @end
  return true
end
