-- Puts a batch of messages into a lane.
--
-- ARGV   1 policy (see parts/items.lua)
--        2 the batch id, a field of the control hash, '' for none
--        3 sequence number of the batch: a repeated call with the same one changes nothing
--        4.. the messages (see parts/items.lua)
-- reply  {accepted, duplicates, collapsed, dropped, malformed, ready, letters in the outbox}; all 0 for a repeated batch
--
-- Atomic because an id must not become pending twice, and a batch must not be enqueued twice.

local FIRST = 4 -- the argument with the first message
-- @include only_group

-- @include lane
-- @include numbers
-- @include count
-- @include ready_count

if ARGV[2] ~= '' and call('HGET', CONTROL, ARGV[2]) == ARGV[3] then return {0, 0, 0, 0, 0, 0, 0} end

local policy = cmsgpack.unpack(ARGV[1])

-- Only messages without a header, and no limit: the common case. It comes first, because Lua creates all functions
-- of a script again at each call, and this path needs few.
local function is_headerless()
  if policy.max_backlog > 0 then return false end
  for index = FIRST, #ARGV, 2 do
    local kind = ARGV[index]
    if kind ~= '1' and kind ~= '0' and kind ~= '2' then return false end
    local high, low = string.byte(ARGV[index + 1], 1, 2)
    if low ~= 0 or high ~= 0 then return false end
  end
  return true
end

if is_headerless() then
  local ready, total = count_ready(policy.groups), (#ARGV - FIRST + 1) / 2
  local sequence = total > 0 and reserve_numbers('sequence', total)
  local bodies, lists = {}, {{}, {}, {}}
  for index = 1, total do
    local level = ARGV[FIRST - 2 + 2 * index] + 1
    local ticket, list = whole((sequence + index) * 4 + level - 1), lists[level]
    bodies[2 * index - 1], bodies[2 * index] = ticket, ARGV[FIRST - 1 + 2 * index]
    list[#list + 1] = ticket
  end
  -- BODIES is the only key whose type is not known here, so it is the first to be written.
  if total > 0 then call('HSET', BODIES, unpack(bodies)) end
  for level = 1, 3 do
    if #lists[level] > 0 then call('RPUSH', READY[level], unpack(lists[level])) end
  end
  if ARGV[2] ~= '' then call('HSET', CONTROL, ARGV[2], ARGV[3]) end
  count('accepted', total)
  return {total, 0, 0, 0, 0, ready + total, 0}
end

-- @if groups
-- Only messages whose header names just their group, and no limit.
local sub = string.sub
local function names_only_groups()
  if not policy.groups or policy.max_backlog > 0 or policy.group_backlog > 0 then return false end
  for index = FIRST, #ARGV, 2 do
    local kind = ARGV[index]
    if kind ~= '1' and kind ~= '0' and kind ~= '2' then return false end
    if sub(ARGV[index + 1], 3, 9) ~= ONLY_GROUP then return false end
  end
  return true
end

if names_only_groups() then
  -- @include check_types
  -- @include group_waiting
  local total = (#ARGV - FIRST + 1) / 2
  local sequence = total > 0 and reserve_numbers('sequence', total)
  local bodies, waiting, names = {}, {}, {} -- names of groups, by their form in a header
  local arguments, byte, to_text = ARGV, string.byte, whole
  for index = 1, total do
    local level, record = arguments[FIRST - 2 + 2 * index] + 1, arguments[FIRST - 1 + 2 * index]
    local ticket = to_text((sequence + index) * 4 + level - 1)
    bodies[2 * index - 1], bodies[2 * index] = ticket, record
    local high, low = byte(record, 1, 2)
    local packed = sub(record, 10, 2 + high * 256 + low)
    local name = names[packed]
    if not name then
      name = cmsgpack.unpack(packed)
      names[packed] = name
    end
    add_waiting(waiting, level, name, ticket)
  end
  if total > 0 then call('HSET', BODIES, unpack(bodies)) end
  save_waiting(waiting)
  if ARGV[2] ~= '' then call('HSET', CONTROL, ARGV[2], ARGV[3]) end
  count('accepted', total)
  return {total, 0, 0, 0, 0, count_ready(true), 0}
end
-- @end

-- @include check_types
if ARGV[2] ~= '' then call('HSET', CONTROL, ARGV[2], ARGV[3]) end
-- @include items
return {accepted, duplicates, collapsed, dropped, malformed, count_ready(policy.groups), letters}
