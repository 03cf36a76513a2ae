-- Forgets a batch that a worker has put into lanes, and moves the next one to its processing list, as fetch.lua does, but
-- without looking at an element: Redis's Lua would look at every byte. The worker reads the list in the same transaction.
--
-- @key QUEUE         the application's list
-- @key STAGED        elements that blocking waits have moved off it
-- @key PROCESSING    this worker's processing list
-- @key SEQUENCE      the number of the batch on it
-- @key OUTSTANDING   sorted set: worker by the number of its batch that is not yet in its lanes
-- @key LAST_SEQUENCE  the number of the last batch
-- @key DEFERRED_LANES  hash: its fields are the lanes that have deferred elements
-- @key LANES...      if one Redis holds all: the control hashes of the lanes that have got parts of the batch
-- ARGV   1 the worker
--        2 number of the batch that is done, '' for none
--        3 the most elements to hand out
--        4 the most bytes that they may take in Redis: no element can be larger
--        5 the batch id: the field of LANES that holds the number of the last batch that came from this worker
-- reply  {number, batches that are outstanding and were taken before}; number '' if there are no elements. nil if
--        fetch.lua has to do it
--
-- Atomic because an element must always be on one of the lists, and numbers must follow their order.

local call = redis.call
local worker = ARGV[1]

-- Every key is read before the first write that moves anything, as in fetch.lua.
local last, sequence = call('GET', LAST_SEQUENCE), call('GET', SEQUENCE)
local done = sequence and sequence == ARGV[2]
local no_others = call('ZCARD', OUTSTANDING) == (sequence and 1 or 0)
for index = 1, #LANES do done = done and call('HGET', LANES[index], ARGV[5]) == sequence end
call('LLEN', QUEUE)
if call('LLEN', PROCESSING) > 0 and not done or call('EXISTS', STAGED, DEFERRED_LANES) > 0 then return false end

-- LTRIM comes first of the writes, so that under maxmemory the others are not refused (see parts/lane.lua).
call('LTRIM', PROCESSING, 1, 0)
-- Without sorting, this copies the first elements of the list in their order.
local count = call('SORT', QUEUE, 'BY', 'nosort', 'LIMIT', 0, ARGV[3], 'STORE', PROCESSING)
if count == 0 then
  call('DEL', SEQUENCE)
  call('ZREM', OUTSTANDING, worker)
  return {'', 0}
end
local size = redis.pcall('MEMORY', 'USAGE', PROCESSING, 'SAMPLES', 0)
if type(size) == 'table' or size > tonumber(ARGV[4]) then
  call('DEL', PROCESSING)
  return type(size) == 'table' and size or false
end
call('LTRIM', QUEUE, count, -1)

-- @include batch_number
sequence = next_batch_number(last)
call('SET', LAST_SEQUENCE, sequence)
call('SET', SEQUENCE, sequence)
call('ZADD', OUTSTANDING, sequence, worker)
local preceding = no_others and 0 or call('ZCOUNT', OUTSTANDING, '-inf', '(' .. sequence)
return {sequence, preceding}
