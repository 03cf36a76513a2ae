-- Settles deliveries of messages without a header, in a lane without groups and without a state: the shortest way, with
-- few calls and keys. settle.lua does the same for all others.
--
-- @key INFLIGHT  hash of the settling worker: ticket -> fencing token
-- ARGV   1 tickets (MessagePack array)
--        2 fencing token of each (MessagePack array)
-- reply  {settled, lists with messages that may go now, letters in the outbox}; nil if settle.lua has to do it
--
-- Atomic because a message must be in exactly one place.

local call = redis.call
local tickets, tokens = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

-- All keys are read before the first write (see parts/check_types.lua), which is that to BODIES.
-- @include held_without_state
local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)
local ready = call('EXISTS', READY[1], READY[2], READY[3])
-- A message whose body is gone was already counted, for a worker that had it before.
local delivered = call('HDEL', BODIES, unpack(tickets))
if some_tried then call('HDEL', TRIES, unpack(tickets)) end
call('HDEL', INFLIGHT, unpack(tickets))
call('HINCRBY', CONTROL, 'delivered', delivered)
return {#tickets, ready, letters}
