-- Makes messages of one chunk of a fan-out's targets, at the head of the lane: they go next. With groups, each
-- waits in its own.
--
-- @key INFLIGHT  hash of the expanding worker: ticket -> fencing token
-- ARGV   1 lifo ('1' or '0'), 2 ticket, 3 the fencing token under which it was handed out
--        4.. the records of the messages, in the order of the targets
-- reply  1, or 0 if the fan-out was no longer this worker's, or has been taken back
--
-- Atomic because each target must become a message exactly once, however often workers die.

-- @include lane
-- @include count
-- @include numbers
-- @include fan_out
-- @include records
-- @include all_to_head

local lifo, ticket = ARGV[1] == '1', ARGV[2]
if call('HGET', INFLIGHT, ticket) ~= ARGV[3] then return 0 end
-- @include check_types
call('HDEL', INFLIGHT, ticket)
local fan, total = fan_out(ticket), #ARGV - 3
if not fan or fan.rest == 0 then return 0 end

local level = tonumber(ticket) % 4
local sequence = reserve_numbers('sequence', total)
local bodies, children = {}, {}
for index = 1, total do
  local child = whole((sequence + index) * 4 + level)
  bodies[2 * index - 1], bodies[2 * index] = child, ARGV[3 + index]
  -- The last one that is pushed goes first.
  children[total + 1 - index] = {child, header_of(ARGV[3 + index])}
end
call('HSET', BODIES, unpack(bodies))
all_to_head(children, lifo)

call('HDEL', TARGETS, ticket .. ':' .. fan.next)
fan.rest, fan.next = fan.rest - total, fan.next + 1
save_fan_out(ticket, fan)
if fan.rest > 0 then call('RPUSH', FAN_OUTS[level + 1], ticket) end
count('fanned_out', total)
count_unexpanded(-total)
return 1
