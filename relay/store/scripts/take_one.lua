-- Moves one element from its queue into a lane: the fast path, if one Redis holds both.
--
-- @key SOURCE       list: elements that waits have moved off the queue, or that wait for this lane
-- @key QUEUE        the queue itself
-- @key OUTSTANDING  sorted set: fetches of the queue that are not yet in their lanes
-- @key DEFERRED     list: elements that wait for this lane
-- ARGV   1 policy (see parts/items.lua)
--        2 the element, which must be the first of SOURCE
--        3 '1' if its order counts, so that it must follow outstanding fetches and deferred elements
--        4.. its message (see parts/items.lua)
-- reply  {accepted, duplicates, collapsed, dropped, malformed, ready, letters in the outbox, elements left in the
--        queue}; nil if the element has to be fetched
--
-- Atomic because an element is in its queue or in its lane.

local FIRST = 4 -- the argument with the message

-- @include lane
-- @include numbers
-- @include count
-- @include ready_count

if ARGV[3] == '1' and call('ZCARD', OUTSTANDING) + call('EXISTS', DEFERRED) > 0 then return false end
local left = call('LLEN', QUEUE)
local policy = cmsgpack.unpack(ARGV[1])
-- @include check_types
local element = call('LPOP', SOURCE)
if element ~= ARGV[2] then
  if element then call('LPUSH', SOURCE, element) end
  return false
end
left = left + call('LLEN', SOURCE)
-- @include items
return {accepted, duplicates, collapsed, dropped, malformed, count_ready(policy.groups), letters, left}
