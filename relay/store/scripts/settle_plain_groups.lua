-- Settles deliveries of messages that have no header besides their group, while neither a group nor the lane has a state:
-- the shortest way, with few calls and keys. settle.lua does the same for all others.
--
-- @key INFLIGHT  hash of the settling worker: ticket -> fencing token, and its group if it came from one
-- ARGV   1 tickets (MessagePack array)
--        2 fencing token of each (MessagePack array)
-- reply  {settled, lists and rotations with messages that may go now, letters in the outbox}; nil if settle.lua has to
--        do it
--
-- Atomic because a message must be in exactly one place.

local call = redis.call
-- @include set_fields
-- @include whole

if call('EXISTS', GROUPS) == 1 then return false end
local control = call('HMGET', CONTROL, 'state', 'doubts', 'throttles', 'window', 'groups_window', 'groups_throttled', 'failures')
for field = 1, 6 do
  if control[field] then return false end
end
if control[7] and control[7] ~= '0' then return false end

local tickets, tokens = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local leases = call('HMGET', INFLIGHT, unpack(tickets))
local names, delivered, prefix_of, prefix = {}, {}, nil, nil
for index = 1, #tickets do
  local lease, token = leases[index], tokens[index]
  if lease ~= token then
    if token ~= prefix_of then prefix_of, prefix = token, token .. ' ' end
    if not lease or string.find(lease, prefix, 1, true) ~= 1 then return false end
    local name = string.sub(lease, #prefix + 1)
    if not delivered[name] then names[#names + 1] = name end
    delivered[name] = (delivered[name] or 0) + 1
  end
end
local counts = #names > 0 and call('HMGET', GROUPS_IN_FLIGHT, unpack(names)) or {}
local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)

-- The rest in flight of a group that has answered is stored as a negative number (see parts/group_states.lua).
local answered, idle, texts = {}, {}, {}
for index = 1, #names do
  local name, count = names[index], (counts[index] or 0) + 0
  local left = (count < 0 and -count or count) - delivered[name]
  if left > 0 then
    texts[left] = texts[left] or whole(-left)
    local length = #answered
    answered[length + 1], answered[length + 2] = name, texts[left]
  else
    idle[#idle + 1] = name
  end
end

-- All keys are read before the first write (see parts/check_types.lua), which is that to BODIES. A message whose body is
-- gone was already counted, for a worker that had it before.
local ended = call('HDEL', BODIES, unpack(tickets))
if some_tried then call('HDEL', TRIES, unpack(tickets)) end
call('HDEL', INFLIGHT, unpack(tickets))
call('HINCRBY', CONTROL, 'delivered', ended)
set_fields(GROUPS_IN_FLIGHT, answered)
if #idle > 0 then call('HDEL', GROUPS_IN_FLIGHT, unpack(idle)) end
return {#tickets, call('EXISTS', READY[1], READY[2], READY[3], ROTATION[1], ROTATION[2], ROTATION[3]), letters}
