-- Puts the messages that begin at argument FIRST into the lane, under `policy`. Comes after every key is known to
-- have its type, and counts the results: accepted, duplicates, collapsed, dropped, malformed, letters.
--   policy (MessagePack map): lifo, max_backlog (0: none), overflow, dedup (ms), groups (true if the lane has some),
--     group_backlog (max_backlog of each group, 0: none), journal (see journal.lua)
--   for each message: kind, record
--     kind 0..2  a message of that priority
--     kind 'f'   a fan-out: next is its priority, then the number of targets in a chunk, then the number of chunks,
--                then the chunks
--     kind 'x'   a malformed element, for the dead letters: next is its reason, then its queue, the raw bytes, its id
--                and the list for its receipt ('' for none)
--     kind 'n'   the receipt of an element that belongs to no lane: next is its reason, then its id, the list for its
--                receipt, and the provider that it names
-- @include records
-- @include ready
-- @include due_at
-- @include group_member
-- @if groups
-- @include group_waiting
-- @end
-- @include receipt
-- @include journal

local lifo = policy.lifo
local accepted, duplicates, collapsed, dropped, malformed, refused = 0, 0, 0, 0, 0, 0
local lists, bodies, sequence = {{}, {}, {}}, {}, nil
-- @if groups
local of_groups = {} -- see group_waiting.lua
-- @end
local capacity = math.huge

local function is_duplicate(id)
  if not id then return false end
  if call('HEXISTS', IDS, id) == 1 then return true end
  local until_ms = call('ZSCORE', SEEN, id)
  return until_ms and tonumber(until_ms) > NOW
end

local function flush()
  if #bodies > 0 then call('HSET', BODIES, unpack(bodies)) end
  for level = 1, 3 do
    if #lists[level] > 0 then call('RPUSH', READY[level], unpack(lists[level])) end
  end
  lists, bodies = {{}, {}, {}}, {}
  -- @if groups
  if next(of_groups) then
    save_waiting(of_groups)
    of_groups = {}
  end
  -- @end
end

-- `chunks` are the targets of a fan-out, in chunks of `size`.
local function plan_fan_out(ticket, header, size, chunks)
  -- @include fan_out
  local fields = {}
  for index, chunk in ipairs(chunks) do
    fields[#fields + 1] = ticket .. ':' .. index
    fields[#fields + 1] = chunk
  end
  call('HSET', TARGETS, unpack(fields))
  count_unexpanded(header.targets)
  save_fan_out(ticket, {
    left = header.targets, rest = header.targets, next = 1, chunks = #chunks, size = size, stop = '',
    ended = {}, window = policy.dedup, header = header,
  })
end

local function add(ticket, level, record, header)
  accepted = accepted + 1
  capacity = capacity - 1
  bodies[#bodies + 1] = ticket
  bodies[#bodies + 1] = record
  if header then
    if header.id then call('HSET', IDS, header.id, ticket) end
    if header.collapse_key then call('HSET', COLLAPSE, header.collapse_key, ticket) end
    local key = header.ordering_key
    if key and call('HSETNX', ORDERING, key, ticket) == 0 then
      call('ZADD', BLOCKED, 0, group_member(key, ticket))
      return
    elseif header.deliver and header.deliver > NOW then
      call('ZADD', DUE, due_at(header, header.deliver), ticket)
      return
    end
  end
  -- @if groups
  if header and header.group then return add_waiting(of_groups, level, header.group, ticket) end
  -- @end
  lists[level][#lists[level] + 1] = ticket
end

-- One step for the whole batch; unused numbers leave a gap, and gaps do no harm.
local function next_ticket(level)
  sequence = (sequence or reserve_numbers('sequence', math.floor((#ARGV - FIRST + 1) / 2))) + 1
  return whole(sequence * 4 + level - 1)
end

-- Puts a new ticket where the older message waits. A worker that had the older one out may still report its
-- success, which must not end the newer one; and messages that go later must not stand among those that go now.
-- The newer one waits for the next attempt if the older one was tried, but not for the older one's delay.
local function replace_ticket(older, header, was_tried)
  local ticket = next_ticket(older % 4 + 1)
  local at = was_tried and tonumber(call('ZSCORE', DUE, older) or 0) or 0
  call('HDEL', BODIES, older)
  call('ZREM', DUE, older)
  call('HSET', COLLAPSE, header.collapse_key, ticket)
  if header.ordering_key then call('HSET', ORDERING, header.ordering_key, ticket) end
  at = math.max(at, header.deliver or 0)
  if at > NOW then call('ZADD', DUE, due_at(header, at), ticket) else to_head(ticket, lifo, header) end
  return ticket
end

-- The newer body takes the place of the older one that still waits under the same key.
local function collapse_into(header, record, size, chunks)
  local ticket = call('HGET', COLLAPSE, header.collapse_key)
  if not ticket then return false end
  flush()
  local older = call('HGET', BODIES, ticket)
  if not older then return false end
  local old_header = header_of(older)
  if old_header.ordering_key ~= header.ordering_key then return false end
  if old_header.id and call('HGET', IDS, old_header.id) == ticket then
    call('HDEL', IDS, old_header.id)
  end
  journal(older, 'collapsed', 'a newer message has the same collapse_key', 0)
  receipt(old_header, 'collapsed', 'a newer message has the same collapse_key', 0)
  if old_header.targets then
    -- @include fan_out
    drop_targets(ticket, fan_out(ticket))
    call('HDEL', FANS, ticket)
  end
  local key = header.ordering_key
  local blocked = key and call('HGET', ORDERING, key) ~= ticket
  local group = old_header.group
  local was_tried = call('HDEL', TRIES, ticket) == 1
  local moves = was_tried or math.max(header.deliver or 0, old_header.deliver or 0) > NOW or group ~= header.group
  if moves and not blocked then
    -- @if groups
    if group then call('ZREM', WAITING[ticket % 4 + 1], group_member(group, ticket)) end
    -- @end
    ticket = replace_ticket(ticket, header, was_tried)
  end
  call('HSET', BODIES, ticket, record)
  if header.id then call('HSET', IDS, header.id, ticket) end
  if chunks then plan_fan_out(ticket, header, size, chunks) end
  return true
end

-- Makes room for one message. Returns false if the newest has to be dropped: by the policy, or because everything
-- that waits is delayed or blocked.
local function has_room()
  return true
end
if policy.max_backlog > 0 or policy.group_backlog > 0 then
  -- @include backlog
  has_room = has_room_within_limits
end

local function enqueue(level, record, size, chunks)
  local header = header_of(record)
  if header and is_duplicate(header.id) then
    duplicates = duplicates + 1
    journal(record, 'duplicate', 'a message with this id is pending or was delivered lately', 0)
    receipt(header, 'duplicate', 'a message with this id is pending or was delivered lately', 0)
  elseif header and header.collapse_key and collapse_into(header, record, size, chunks) then
    collapsed, accepted = collapsed + 1, accepted + 1
  elseif has_room(header) then
    local ticket = next_ticket(level)
    add(ticket, level, record, header)
    if chunks then plan_fan_out(ticket, header, size, chunks) end
  else
    dropped = dropped + (chunks and header.targets or 1)
    journal(record, 'dropped', 'the backlog is full', 0)
    if header then receipt(header, 'dropped', 'the backlog is full', 0) end
  end
end

local index = FIRST
local function next_arguments(number)
  index = index + number
  return unpack(ARGV, index - number, index - 1)
end

while index <= #ARGV do
  local kind = next_arguments(1)
  if kind == 'x' then
    local reason, queue, raw, id, reply_to = next_arguments(5)
    call('XADD', DEAD, '*', 'raw', raw, 'reason', reason, 'queue', queue)
    malformed = malformed + 1
    if reply_to ~= '' then post({'receipt', reply_to, id, 'rejected', reason, 0, NOW}) end
  elseif kind == 'n' then
    local reason, id, reply_to, provider = next_arguments(4)
    post({'receipt', reply_to, id, 'rejected', reason, 0, NOW, provider})
    refused = refused + 1
  elseif kind == 'f' then
    local record, priority, size, number = next_arguments(4)
    enqueue(priority + 1, record, tonumber(size), {next_arguments(tonumber(number))})
  else
    enqueue(kind + 1, (next_arguments(1)))
  end
end
flush()

count('accepted', accepted)
count('duplicate', duplicates)
count('collapsed', collapsed)
count('dropped', dropped)
count('malformed', malformed)
local letters = duplicates + collapsed + dropped + malformed + refused > 0 and call('XLEN', OUTBOX) or 0
