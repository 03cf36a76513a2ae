-- Moves one element without a header from its queue straight into flight, in a lane in which nothing waits and which has
-- neither groups, rates, a limit nor a state: as take_headerless.lua and then claim.lua, for 0.6 of their instructions.
--
-- @key INFLIGHT  hash of the claiming worker: ticket -> fencing token
-- @key SOURCE    list: elements that waits have moved off the queue
-- @key QUEUE     the queue itself
-- ARGV   1 the element, which must be the first of SOURCE
--        2 priority, 3 record
-- reply  "<elements left in the queue> <ticket> <fencing token>"; nil if the element has to go through the lane
--
-- Atomic because an element is in its queue or in its lane, and in flight under the name of one worker.

-- @include clock
-- @include numbers

if call('EXISTS', READY[1], READY[2], READY[3], DUE, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0 then return false end
local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'grouped', 'override', 'sequence', 'fencing_token',
                     'accepted', 'claimed')
if control[1] or control[2] or control[3] or control[4] or control[5] then return false end
-- All keys are read before the first write, except BODIES and INFLIGHT: if one cannot be written, the element goes back
-- (see parts/check_types.lua). LPOP comes first of the writes: under maxmemory the others are not refused then (see
-- parts/lane.lua).
local left = call('LLEN', QUEUE)
local element = call('LPOP', SOURCE)
if element ~= ARGV[1] then
  if element then call('LPUSH', SOURCE, element) end
  return false
end
local sequence = last_number(control[6]) + 1
local ticket, token = whole(sequence * 4 + ARGV[2]), whole(last_number(control[7]) + 1)
local written = redis.pcall('HSET', BODIES, ticket, ARGV[3])
if type(written) == 'number' then
  written = redis.pcall('HSET', INFLIGHT, ticket, token)
  if type(written) == 'table' then call('HDEL', BODIES, ticket) end
end
if type(written) == 'table' then
  call('LPUSH', SOURCE, element)
  return written
end
call('HSET', CONTROL, 'sequence', whole(sequence), 'fencing_token', token, 'accepted', whole((control[8] or 0) + 1),
     'claimed', whole((control[9] or 0) + 1))
return (left + call('LLEN', SOURCE)) .. ' ' .. ticket .. ' ' .. token
