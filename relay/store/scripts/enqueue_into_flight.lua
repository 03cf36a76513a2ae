-- Puts a batch of messages without a header straight into flight, in a lane in which nothing waits and which has neither
-- groups, rates, a limit nor a state: as enqueue_plain.lua and then claim.lua, for 0.6 of their instructions.
--
-- @key INFLIGHT  hash of the claiming worker: ticket -> fencing token
-- ARGV   1 the batch id, a field of the control hash
--        2 sequence number of the batch: a repeated call with the same one changes nothing
--        3.. priority, record, …
-- reply  {fencing token, ticket, …}; empty for a repeated batch; nil if enqueue_plain.lua has to do it
--
-- Atomic because a batch must not be enqueued twice, and a message is in flight under the name of one worker.

local FIRST = 3 -- the argument with the first message

-- @include lane
-- @include numbers
-- @include large

if call('EXISTS', READY[1], READY[2], READY[3], DUE, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0 then return false end
local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'grouped', 'override', 'sequence', 'fencing_token',
                     'accepted', 'claimed', ARGV[1])
if control[1] or control[2] or control[3] or control[4] or control[5] then return false end
if control[10] == ARGV[2] then return {} end
call('HLEN', INFLIGHT)

local total, sequence = (#ARGV - FIRST + 1) / 2, last_number(control[6])
local token = whole(last_number(control[7]) + 1)
local reply, bodies, leases = {token}, {}, {}
for index = 1, total do
  local ticket = whole((sequence + index) * 4 + ARGV[FIRST - 2 + 2 * index])
  reply[index + 1] = ticket
  bodies[2 * index - 1], bodies[2 * index] = ticket, ARGV[FIRST - 1 + 2 * index]
  leases[2 * index - 1], leases[2 * index] = ticket, token
end
-- BODIES is the only key whose type is not known here, so it is the first to be written.
call('HSET', BODIES, unpack(bodies))
if total >= FEW then
  call('HSET', INFLIGHT, LONG_FIELD, '', unpack(leases))
  call('HDEL', INFLIGHT, LONG_FIELD)
else
  call('HSET', INFLIGHT, unpack(leases))
end
call('HSET', CONTROL, 'sequence', whole(sequence + total), 'fencing_token', token, 'accepted',
     whole((control[8] or 0) + total), 'claimed', whole((control[9] or 0) + total), ARGV[1], ARGV[2])
return reply
