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
local tickets, tokens = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
-- @include held_in_groups_without_state

-- All keys are read before the first write (see parts/check_types.lua), which is that to BODIES. A message whose body is
-- gone was already counted, for a worker that had it before.
local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)
local ended = call('HDEL', BODIES, unpack(tickets))
if some_tried then call('HDEL', TRIES, unpack(tickets)) end
call('HDEL', INFLIGHT, unpack(tickets))
call('HINCRBY', CONTROL, 'delivered', ended)
-- @include free_groups
return {#tickets, call('EXISTS', READY[1], READY[2], READY[3], ROTATION[1], ROTATION[2], ROTATION[3]), letters}
