-- Moves one element without a header from its queue into a lane that has no limit: the shortest way, with few calls
-- and keys. take_one.lua does the same for all others.
--
-- @key SOURCE  list: elements that waits have moved off the queue, or that wait for this lane
-- @key QUEUE   the queue itself
-- ARGV   1 the element, which must be the first of SOURCE
--        2 priority, 3 record
-- reply  {elements left in the queue, messages of its priority that may go now}; nil if the element has to be fetched
--
-- Atomic because an element is in its queue or in its lane.

-- @include clock
-- @include numbers

-- All keys are read before the first write, except BODIES: if it cannot be written, the element goes back (see
-- parts/check_types.lua). LPOP comes first of the writes: under maxmemory the others are not refused then (see
-- parts/lane.lua).
local level = ARGV[2] + 1
call('LLEN', READY[level])
local left = call('LLEN', QUEUE)
local counters = call('HMGET', CONTROL, 'sequence', 'accepted')
local element = call('LPOP', SOURCE)
if element ~= ARGV[1] then
  if element then call('LPUSH', SOURCE, element) end
  return false
end
local sequence = last_number(counters[1]) + 1
local ticket = whole(sequence * 4 + level - 1)
local written = redis.pcall('HSET', BODIES, ticket, ARGV[3])
if type(written) == 'table' then
  call('LPUSH', SOURCE, element)
  return written
end
local ready = call('RPUSH', READY[level], ticket)
call('HSET', CONTROL, 'sequence', whole(sequence), 'accepted', whole((counters[2] or 0) + 1))
return {left + call('LLEN', SOURCE), ready}
