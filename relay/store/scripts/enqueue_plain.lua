-- Puts a batch of messages without a header into a lane without groups and without a limit: the shortest way, with few
-- calls and keys. enqueue.lua does the same for all others.
--
-- ARGV   1 the batch id, a field of the control hash, '' for none
--        2 sequence number of the batch: a repeated call with the same one changes nothing
--        3.. priority, record, …
-- reply  {accepted, messages that may go now}; both 0 for a repeated batch
--
-- Atomic because a batch must not be enqueued twice.

local FIRST = 3 -- the argument with the first message

-- @include lane
-- @include numbers

local saved = call('HMGET', CONTROL, 'sequence', 'accepted', ARGV[1])
if ARGV[1] ~= '' and saved[3] == ARGV[2] then return {0, 0} end

local ready = call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
local total, sequence = (#ARGV - FIRST + 1) / 2, last_number(saved[1])
local bodies, lists = {}, {{}, {}, {}}
for index = 1, total do
  local level = ARGV[FIRST - 2 + 2 * index] + 1
  local ticket, list = whole((sequence + index) * 4 + level - 1), lists[level]
  bodies[2 * index - 1], bodies[2 * index] = ticket, ARGV[FIRST - 1 + 2 * index]
  list[#list + 1] = ticket
end
-- BODIES is the only key whose type is not known here, so it is the first to be written.
call('HSET', BODIES, unpack(bodies))
for level = 1, 3 do
  if #lists[level] > 0 then call('RPUSH', READY[level], unpack(lists[level])) end
end
local changes = {'sequence', whole(sequence + total), 'accepted', whole((saved[2] or 0) + total)}
if ARGV[1] ~= '' then changes[5], changes[6] = ARGV[1], ARGV[2] end
call('HSET', CONTROL, unpack(changes))
return {total, ready + total}
