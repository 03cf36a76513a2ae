-- Settles deliveries to targets of fan-outs, and of messages without a header besides their group, while neither a
-- group nor the lane has a state: each fan-out is read and written once, and no message is read. settle.lua does the
-- same for all others.
--
-- @key INFLIGHT  hash of the settling worker: ticket -> fencing token, and its group if it came from one
-- ARGV   1 lifo ('1' or '0')
--        2 tickets (MessagePack array)
--        3 fencing token of each (MessagePack array)
--        4 the fan-outs that they are parts of, in the order of the tickets (MessagePack array): ticket, number of
--          deliveries, …; the ticket is '' for messages without a header
-- reply  {settled, lists and rotations with messages that may go now, letters in the outbox}; nil if settle.lua has to
--        do it
--
-- Atomic because a message must be in exactly one place, and a fan-out ends exactly once.

-- @include lane

local tickets, tokens, fan_outs = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
-- @if groups
-- @include held_in_groups_without_state
-- @else
-- @include held_without_state
-- @end

-- All keys are read before the first write (see parts/check_types.lua). Only the last target of a fan-out may touch
-- any key of the lane, so these are checked, and the functions for that are created, if a fan-out ends.
-- @include fans
local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)
local function load_tally()
  -- @include check_types
  -- @include fan_out
  return tally
end
local fans, end_targets = {}, nil
for index = 1, #fan_outs, 2 do
  local fan = fan_outs[index] ~= '' and fan_out(fan_outs[index])
  fans[index] = fan
  if fan and fan.left <= fan_outs[index + 1] and not end_targets then end_targets = load_tally() end
end

local lifo, delivered, first, remembers = ARGV[1] == '1', 0, 1, false
for index = 1, #fan_outs, 2 do
  local ticket, last, fan = fan_outs[index], first + fan_outs[index + 1] - 1, fans[index]
  -- A message whose body is gone was already counted, for a worker that had it before.
  local ended = call('HDEL', BODIES, unpack(tickets, first, last))
  if fan and ended > 0 then
    (end_targets or count_ended)(ticket, fan, 'delivered', ended, lifo)
    remembers = remembers or fan.left == 0 and fan.window > 0
  end
  delivered, first = delivered + ended, last + 1
end
if some_tried then call('HDEL', TRIES, unpack(tickets)) end
call('HDEL', INFLIGHT, unpack(tickets))
call('HINCRBY', CONTROL, 'delivered', delivered)
-- @if groups
-- @include free_groups
-- @end
if remembers then
  -- @include trim_seen
end
-- @if groups
local ready = call('EXISTS', READY[1], READY[2], READY[3], ROTATION[1], ROTATION[2], ROTATION[3])
-- @else
local ready = call('EXISTS', READY[1], READY[2], READY[3])
-- @end
if end_targets then letters = call('XLEN', OUTBOX) end
return {#tickets, ready, letters}
