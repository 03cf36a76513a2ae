-- Puts a waiting message where the next claim takes it first, as one of high priority.
--
-- @key INFLIGHT_HASHES...  of all living workers: ticket -> fencing token
-- ARGV   1 the ticket, 2 lifo (1 or 0), 3 'move', or 'count' to change nothing
-- reply  {'moved' or 'movable', messages of its group that go before it}, or {the reason why it stays, 0}: 'unknown', 'in flight',
--        'fan-out', 'suspect', 'blocked' (by a message with its ordering key), 'scheduled' (for a time to come)
--
-- It gets a new ticket, because lists are never searched: the old one has no body any more, and is passed over.
--
-- Atomic because the message must be in exactly one place, and a worker may be claiming it.

-- @include lane
local ticket, lifo = ARGV[1], ARGV[2] == '1'
-- @include check_types
-- @include records
-- @include numbers
-- @include ready

local record = call('HGET', BODIES, ticket)
if not record then return {'unknown', 0} end
local header = header_of(record)
for index = 1, #INFLIGHT_HASHES do
  if call('HEXISTS', INFLIGHT_HASHES[index], ticket) == 1 then return {'in flight', 0} end
end
if call('HEXISTS', SUSPECTS, ticket) == 1 then return {'suspect', 0} end
if header then
  if header.targets then return {'fan-out', 0} end
  if header.ordering_key and call('HGET', ORDERING, header.ordering_key) ~= ticket then return {'blocked', 0} end
  if header.deliver and header.deliver > NOW then return {'scheduled', 0} end
end

if ARGV[3] == 'count' then
  local before = 0
  if header and header.group and not lifo then
    -- @include group_member
    local start = start_of_members(header.group)
    before = call('ZLEXCOUNT', WAITING[1], '[' .. start, '[' .. start .. '\255')
    if call('ZSCORE', WAITING[1], group_member(header.group, ticket)) then before = before - 1 end
  end
  return {'movable', before}
end

local first = whole((reserve_numbers('sequence', 1) + 1) * 4)
call('HSET', BODIES, first, record)
call('HDEL', BODIES, ticket)
local tries = call('HGET', TRIES, ticket)
if tries then
  call('HSET', TRIES, first, tries)
  call('HDEL', TRIES, ticket)
end
call('ZREM', DUE, ticket)
local before = 0
if header then
  if header.id and call('HGET', IDS, header.id) == ticket then call('HSET', IDS, header.id, first) end
  if header.collapse_key and call('HGET', COLLAPSE, header.collapse_key) == ticket then
    call('HSET', COLLAPSE, header.collapse_key, first)
  end
  if header.ordering_key then call('HSET', ORDERING, header.ordering_key, first) end
  if header.group then
    -- @include group_member
    call('ZREM', WAITING[ticket % 4 + 1], group_member(header.group, ticket))
    -- Its group sends older messages of high priority first.
    local start = start_of_members(header.group)
    if not lifo then before = call('ZLEXCOUNT', WAITING[1], '[' .. start, '(' .. group_member(header.group, first)) end
  end
end
to_head(first, lifo, header)
return {'moved', before}
