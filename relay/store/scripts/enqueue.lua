-- Puts a batch of messages into a lane.
--
-- KEYS   1..22 the lane
--        23..25, to take one message straight from a queue, where one Redis holds all: elements that waits
--        have moved off it, its batches that are out, and the queue itself
-- ARGV   1 policy (MessagePack map): lifo, max_backlog (0 none), overflow, dedup (ms)
--        2 field of the batch mark in the control hash, '' for none; with KEYS 23: '' where it does not
--          matter whether batches are out
--        3 number of the batch: a repeated call with the same number changes nothing; with KEYS 23: the
--          element, which has to be the first that was moved
--        then for each message: kind, record
--          kind 0..2  a message of that priority
--          kind 'f'   a fan-out: next is its priority, then the number of targets in a chunk, then
--                     the number of chunks, then the chunks
--          kind 'x'   a malformed element, for the dead letters: next is its reason, then its queue, the
--                     raw bytes, its id and the list for its receipt ('' for none)
--          kind 'n'   the receipt of an element that belongs to no lane: next is its reason, then its id, the
--                     list for its receipt, and the provider that it names
-- reply  {accepted, duplicates, collapsed, dropped, malformed, ready, letters in the outbox, elements that
--        are left in the queue of KEYS 23}; all 0 for a repeated batch; nil where the element cannot be taken
--
-- Atomic because an id must not become pending twice, and a batch must not be enqueued twice; and an element
-- is in its queue or in its lane.

local policy = cmsgpack.unpack(ARGV[1])
local lifo = policy.lifo
local moved, out, queue = KEYS[23], KEYS[24], KEYS[25]
if moved then
  if call('LRANGE', moved, 0, 0)[1] ~= ARGV[3] then return false end
  if ARGV[2] ~= '' and call('ZCARD', out) > 0 then return false end
elseif ARGV[2] ~= '' then
  if call('HGET', CONTROL, ARGV[2]) == ARGV[3] then return {0, 0, 0, 0, 0, 0, 0, 0} end
end
local left = moved and call('LLEN', moved) - 1 + call('LLEN', queue) or 0

-- From here on the element is no longer in its queue, or the batch counts as taken: to be called when every
-- key that this call may write is known to have its type.
local begun = false
local function begin()
  begun = true
  if moved then
    call('LPOP', moved)
  elseif ARGV[2] ~= '' then
    call('HSET', CONTROL, ARGV[2], ARGV[3])
  end
end
local function check_and_begin()
  if begun then return end
  check_types()
  begin()
end

local accepted, duplicates, collapsed, dropped, malformed, noted = 0, 0, 0, 0, 0, 0
if policy.max_backlog > 0 then check_and_begin() end
local capacity = policy.max_backlog > 0 and policy.max_backlog - waiting() or nil
local lists, bodies, sequence = {{}, {}, {}}, {}, 0

local function is_duplicate(id)
  if id == '' then return false end
  if call('HEXISTS', IDS, id) == 1 then return true end
  local until_ms = call('ZSCORE', SEEN, id)
  return until_ms and tonumber(until_ms) > NOW
end

-- Makes room by ending the oldest waiting message of the lowest priority; false if none waits.
local function drop_oldest()
  for level = 3, 1, -1 do
    while true do
      local ticket = call('LPOP', READY[level])
      if not ticket then break end
      local record = call('HGET', BODIES, ticket)
      if record then
        local header = header_of(record)
        call('HDEL', BODIES, ticket)
        call('HDEL', TRIES, ticket)
        local ended = header and close(ticket, header, 'dropped', 'the backlog is full', 0, lifo) or 1
        dropped = dropped + ended
        return true
      end
    end
  end
  return false
end

local function flush()
  if #bodies > 0 then call('HSET', BODIES, unpack(bodies)) end
  for level = 1, 3 do
    if #lists[level] > 0 then call('RPUSH', READY[level], unpack(lists[level])) end
  end
  lists, bodies = {{}, {}, {}}, {}
end

-- `chunks` are the targets of a fan-out, in chunks of `size`; else nil.
local function plan_fan_out(ticket, header, size, chunks)
  local fields = {}
  for index, chunk in ipairs(chunks) do
    fields[#fields + 1] = ticket .. ':' .. index
    fields[#fields + 1] = chunk
  end
  call('HSET', TARGETS, unpack(fields))
  unexpanded(header[FAN])
  save_fan_out(ticket, {
    left = header[FAN], rest = header[FAN], next = 1, chunks = #chunks, size = size, stop = '',
    ended = {}, window = policy.dedup, header = header,
  })
end

local function add(ticket, level, record, header)
  accepted = accepted + 1
  if capacity then capacity = capacity - 1 end
  bodies[#bodies + 1] = ticket
  bodies[#bodies + 1] = record
  if not header then
    lists[level][#lists[level] + 1] = ticket
    return
  end
  if header[ID] ~= '' then call('HSET', IDS, header[ID], ticket) end
  if header[COLLAPSE_KEY] ~= '' then call('HSET', COLLAPSE, header[COLLAPSE_KEY], ticket) end
  local key = header[ORDERING_KEY]
  if key ~= '' and call('HSETNX', ORDERING, key, ticket) == 0 then
    call('ZADD', PARKED, 0, parking(key, ticket))
  elseif header[DELIVER] > NOW then
    call('ZADD', DUE, due_at(header, header[DELIVER]), ticket)
  else
    lists[level][#lists[level] + 1] = ticket
  end
end

-- One step for the whole batch; what is not used leaves a gap, and gaps do no harm.
local function next_ticket(level)
  if sequence == 0 then
    local total = math.floor((#ARGV - 3) / 2)
    sequence = reserve_numbers('sequence', total)
  end
  sequence = sequence + 1
  return whole(sequence * 4 + level - 1)
end

-- Puts a new ticket where the older message waits. Whoever had that one out may still report its
-- success, which must not end the newer one; and what goes later must not stand among what goes now.
local function replace_ticket(older, header)
  local ticket = next_ticket(tonumber(older) % 4 + 1)
  local at = tonumber(call('ZSCORE', DUE, older) or 0)
  call('HDEL', BODIES, older)
  call('ZREM', DUE, older)
  call('HSET', COLLAPSE, header[COLLAPSE_KEY], ticket)
  if header[ORDERING_KEY] ~= '' then call('HSET', ORDERING, header[ORDERING_KEY], ticket) end
  at = math.max(at, header[DELIVER])
  if at > NOW then call('ZADD', DUE, due_at(header, at), ticket) else to_head(ticket, lifo) end
  return ticket
end

-- The newer body takes the place of the older one that still waits under the same key.
local function collapse_into(header, record, size, chunks)
  local ticket = call('HGET', COLLAPSE, header[COLLAPSE_KEY])
  if not ticket then return false end
  flush()
  local older = call('HGET', BODIES, ticket)
  if not older then return false end
  local old_header = header_of(older)
  if old_header[ORDERING_KEY] ~= header[ORDERING_KEY] then return false end
  if old_header[ID] ~= '' and call('HGET', IDS, old_header[ID]) == ticket then
    call('HDEL', IDS, old_header[ID])
  end
  receipt(old_header, 'collapsed', 'a newer message has the same collapse_key', 0)
  if old_header[FAN] ~= 0 then
    drop_targets(ticket, fan_out(ticket))
    call('HDEL', FANS, ticket)
  end
  local key = header[ORDERING_KEY]
  local parked = key ~= '' and call('HGET', ORDERING, key) ~= ticket
  local moves = call('HDEL', TRIES, ticket) == 1 or header[DELIVER] > NOW
  if moves and not parked then ticket = replace_ticket(ticket, header) end
  call('HSET', BODIES, ticket, record)
  if header[ID] ~= '' then call('HSET', IDS, header[ID], ticket) end
  if chunks then plan_fan_out(ticket, header, size, chunks) end
  return true
end

local index = 4
while index <= #ARGV do
  local kind, record = ARGV[index], ARGV[index + 1]
  index = index + 2
  if kind == 'x' then
    check_and_begin()
    call('XADD', DEAD, '*', 'raw', ARGV[index + 1], 'reason', record, 'queue', ARGV[index])
    malformed = malformed + 1
    if ARGV[index + 3] ~= '' then
      post({'receipt', ARGV[index + 3], ARGV[index + 2], 'rejected', record, 0, NOW})
    end
    index = index + 4
  elseif kind == 'n' then
    check_and_begin()
    post({'receipt', ARGV[index + 1], ARGV[index], 'rejected', record, 0, NOW, ARGV[index + 2]})
    noted = noted + 1
    index = index + 3
  else
    local size, chunks
    if kind == 'f' then
      kind, size, chunks = ARGV[index], tonumber(ARGV[index + 1]), {}
      local number = tonumber(ARGV[index + 2])
      for chunk = 1, number do chunks[chunk] = ARGV[index + 2 + chunk] end
      index = index + 3 + number
    end
    local header = header_of(record)
    if header then check_and_begin() end
    if header and is_duplicate(header[ID]) then
      duplicates = duplicates + 1
      receipt(header, 'duplicate', 'a message with this id is pending or was delivered lately', 0)
    elseif header and header[COLLAPSE_KEY] ~= '' and collapse_into(header, record, size, chunks) then
      collapsed = collapsed + 1
      accepted = accepted + 1
    else
      local room = true
      if capacity and capacity <= 0 then
        flush()
        if policy.overflow == 'drop_newest' then
          room = false
        elseif drop_oldest() then
          capacity = capacity + 1
        else
          -- Everything that waits is delayed or parked: the newest has to go after all.
          room = false
        end
        if not room then
          dropped = dropped + (chunks and header[FAN] or 1)
          if header then receipt(header, 'dropped', 'the backlog is full', 0) end
        end
      end
      if room then
        local level = tonumber(kind) + 1
        local ticket = next_ticket(level)
        add(ticket, level, record, header)
        if chunks then plan_fan_out(ticket, header, size, chunks) end
      end
    end
  end
end
local before
if begun then
  flush()
else
  -- Only messages without a header: BODIES is the first key that they are written to.
  before = ready()
  flush()
  begin()
end

count('accepted', accepted)
count('duplicate', duplicates)
count('collapsed', collapsed)
count('dropped', dropped)
count('malformed', malformed)
local letters = duplicates + collapsed + dropped + malformed + noted > 0 and call('XLEN', OUTBOX) or 0
return {accepted, duplicates, collapsed, dropped, malformed, before and before + accepted or ready(), letters, left}
