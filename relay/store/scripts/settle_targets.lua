-- Settles deliveries to targets of fan-outs, and of messages without a header, in a lane without groups and without a
-- state: each fan-out is read and written once, and no message is read. settle.lua does the same for all others.
--
-- @key INFLIGHT  hash of the settling worker: ticket -> fencing token
-- ARGV   1 lifo ('1' or '0')
--        2 tickets (MessagePack array)
--        3 fencing token of each (MessagePack array)
--        4 the fan-outs that they are parts of, in the order of the tickets (MessagePack array): ticket, number of
--          deliveries, …; the ticket is '' for messages without a header
-- reply  {settled, lists with messages that may go now, letters in the outbox}; nil if settle.lua has to do it
--
-- Atomic because a message must be in exactly one place, and a fan-out ends exactly once.

-- @include lane

local tickets, tokens, fan_outs = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
-- @include held_without_state

-- @include check_types
-- @include fan_out

local lifo, delivered, first, remembers = ARGV[1] == '1', 0, 1, false
for index = 1, #fan_outs, 2 do
  local ticket, last = fan_outs[index], first + fan_outs[index + 1] - 1
  local fan = ticket ~= '' and fan_out(ticket)
  -- A message whose body is gone was already counted, for a worker that had it before.
  local ended = call('HDEL', BODIES, unpack(tickets, first, last))
  if fan and ended > 0 then
    tally(ticket, fan, 'delivered', ended, lifo)
    remembers = remembers or fan.left == 0 and fan.window > 0
  end
  delivered, first = delivered + ended, last + 1
end
if some_tried then call('HDEL', TRIES, unpack(tickets)) end
call('HDEL', INFLIGHT, unpack(tickets))
call('HINCRBY', CONTROL, 'delivered', delivered)
if remembers then
  -- @include trim_seen
end
return {#tickets, call('EXISTS', READY[1], READY[2], READY[3]), call('XLEN', OUTBOX)}
