-- Makes messages of one chunk of a fan-out's targets, at the head of the lane: they go next. With groups, each
-- waits in its own. In a lane without groups and without a state in which nothing waits, the first ones go straight into
-- flight, which replaces a claim.
--
-- @key INFLIGHT  hash of the expanding worker: ticket -> fencing token
-- ARGV   1 lifo ('1' or '0'), 2 ticket, 3 the fencing token under which it was handed out
--        4 how many may go straight into flight: 0 in a lane with rates, a warm-up or groups
--        5.. the records of the messages, in the order of the targets
-- reply  {fencing token, ticket, …} of the messages that are in flight, the first ones of the chunk: {''} if none is;
--        nil if the fan-out was no longer this worker's, or has been taken back
--
-- Atomic because each target must become a message exactly once, however often workers die.

local FIRST = 5 -- the argument with the first record

-- @include lane
-- @include count
-- @include numbers
-- @include fan_out
-- @include set_fields
-- @if groups
-- @include records
-- @include all_to_head
-- @end

local lifo, ticket = ARGV[1] == '1', ARGV[2]
if call('HGET', INFLIGHT, ticket) ~= ARGV[3] then return false end
-- @include check_types
local fan, total = fan_out(ticket), #ARGV - FIRST + 1
local direct, control = 0, nil -- messages that go straight into flight
-- @if no groups
local header = fan and fan.header
if ARGV[4] ~= '0' and header and not (header.expires and header.expires <= NOW)
   and call('EXISTS', READY[1], READY[2], READY[3]) == 0 then
  control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'grouped', 'override', 'fencing_token', 'claimed')
  if not (control[1] or control[2] or control[3] or control[4] or control[5]) then
    direct = math.min(tonumber(ARGV[4]), total)
  end
end
-- @end
call('HDEL', INFLIGHT, ticket)
if not fan or fan.rest == 0 then return false end

local level = tonumber(ticket) % 4
local sequence = reserve_numbers('sequence', total)
local bodies, waiting, reply = {}, {}, {''}
for index = 1, total do
  local child, record = whole((sequence + index) * 4 + level), ARGV[FIRST - 1 + index]
  bodies[2 * index - 1], bodies[2 * index] = child, record
  if index <= direct then
    reply[index + 1] = child
  else
    -- The last one that is pushed goes first.
    -- @if groups
    waiting[total + 1 - index] = {child, header_of(record)}
    -- @else
    waiting[total + 1 - index] = child
    -- @end
  end
end
call('HSET', BODIES, unpack(bodies))
-- @if groups
all_to_head(waiting, lifo)
-- @else
if total > direct then call(lifo and 'RPUSH' or 'LPUSH', READY[level + 1], unpack(waiting)) end
if direct > 0 then
  local token, leases = whole(last_number(control[6]) + 1), {}
  reply[1] = token
  for index = 1, direct do leases[2 * index - 1], leases[2 * index] = reply[index + 1], token end
  set_fields(INFLIGHT, leases)
  call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole((control[7] or 0) + direct))
  -- They count for the turn of the next chunk (see parts/special.lua).
  call('HINCRBY', CONTROL, 'fan:' .. (level + 1), -direct)
end
-- @end

call('HDEL', TARGETS, ticket .. ':' .. fan.next)
fan.rest, fan.next = fan.rest - total, fan.next + 1
save_fan_out(ticket, fan)
if fan.rest > 0 then call('RPUSH', FAN_OUTS[level + 1], ticket) end
count('fanned_out', total)
count_unexpanded(-total)
return reply
