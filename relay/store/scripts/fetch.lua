-- Forgets a batch that a worker has put into lanes, and hands it the next one of a queue.
--
-- @key QUEUE         the application's list
-- @key STAGED        elements that blocking waits have moved off it: they are taken first
-- @key PROCESSING    this worker's processing list
-- @key SEQUENCE      the number of the batch on it
-- @key REJECTED      stream: elements that belong to no provider
-- @key OUTSTANDING   sorted set: worker by the number of its batch that is not yet in its lanes
-- @key LAST_SEQUENCE  the number of the last batch
-- @key DEFERRED_LANES  hash: its fields are the lanes that have deferred elements
-- @key TOO_LARGE     the stream for elements that are too large
-- @key COUNTERS      the control hash to count them in
-- @key LANES...      if one Redis holds all: the control hashes of the lanes that have got parts of the batch
-- ARGV   1 the worker
--        2 number of the batch that is done, '' for none; if another one is on the processing list,
--          nothing is forgotten: the answer was lost, or a failover has undone something
--        3 the most elements to hand out; 0: only those on the processing list
--        4 bytes after which a batch is full
--        5 bytes of an element that a worker may read, 0 for any number
--        6 for elements that are longer (MessagePack map): with_targets, the same for one that may have targets;
--          max_size, bytes that the queue allows, for the reason; queue, its name; counts, whether COUNTERS counts
--        7 the batch id: the field of LANES that holds the number of the last batch that came from this worker
--        8 if not all elements of the batch went into lanes: how many belong to no provider; then for each: reason,
--          raw bytes; then for each element whose lane refuses messages: the lane, raw bytes
-- reply  {number, batches that are outstanding and were taken before, lanes with deferred elements, sizes of elements
--        that were too large, element, …}: the rest of the processing list, otherwise a new batch; number '' if there is
--        none. An empty list is 0, which costs less
--
-- Atomic because an element must always be on one of the lists, and numbers must follow their order.

local FIRST_REJECTED = 9 -- argument

local call = redis.call
local worker, most, full = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local longest, limits = tonumber(ARGV[5]), nil
if longest == 0 then longest = math.huge end

-- Every key is read before the first write that moves anything: a wrong type raises an error while all elements are
-- still in their places.
local last, sequence, deferred =
    call('GET', LAST_SEQUENCE), call('GET', SEQUENCE), call('HKEYS', DEFERRED_LANES)
local done = sequence and sequence == ARGV[2]
local no_others = call('ZCARD', OUTSTANDING) == (sequence and 1 or 0)
for index = 1, #LANES do done = done and call('HGET', LANES[index], ARGV[7]) == sequence end

local batch, too_large = {}, {}
if not done then batch = call('LRANGE', PROCESSING, 0, -1) end
local is_new = #batch == 0
local from_staged, from_queue = 0, 0
if is_new then
  local number, size = 0, 0
  for pass = 1, 2 do
    local key, count, more = STAGED, 0, true
    if pass == 2 then key = QUEUE end
    while more and number < most and size < full do
      -- No more than is likely to fit: Redis's Lua looks at every byte of its arguments.
      local fit = 1
      if size > 0 then fit = math.ceil((full - size) * (number + #too_large) / size) end
      if fit > most - number then fit = most - number end
      local found = call('LRANGE', key, count, count + fit - 1)
      more = #found == fit
      for _, element in ipairs(found) do
        if size >= full then break end
        local length = #element
        count, size = count + 1, size + length
        if length > longest then limits = limits or cmsgpack.unpack(ARGV[6]) end
        if length > longest
           and (length > limits.with_targets or not string.find(element, '"targets"', 1, true)) then
          too_large[#too_large + 1] = element
        else
          number = number + 1
          batch[number] = element
        end
      end
    end
    if pass == 1 then from_staged = count else from_queue = count end
  end
end
if #too_large > 0 then
  call('XLEN', TOO_LARGE)
  if limits.counts then call('HLEN', COUNTERS) end
end

-- LTRIM or ZREM comes first of the writes, so that under maxmemory the others are not refused (see parts/lane.lua).
if done then
  local first_deferred = FIRST_REJECTED + 2 * (ARGV[8] or 0)
  if first_deferred > FIRST_REJECTED then call('XLEN', REJECTED) end
  for index = first_deferred, #ARGV, 2 do call('LLEN', DEFERRED_LANES .. ':' .. ARGV[index]) end
  call('LTRIM', PROCESSING, 1, 0)
  for index = FIRST_REJECTED, first_deferred - 1, 2 do
    call('XADD', REJECTED, '*', 'raw', ARGV[index + 1], 'reason', ARGV[index])
  end
  for index = first_deferred, #ARGV, 2 do
    call('RPUSH', DEFERRED_LANES .. ':' .. ARGV[index], ARGV[index + 1])
    if call('HSET', DEFERRED_LANES, ARGV[index], '') == 1 then deferred[#deferred + 1] = ARGV[index] end
  end
else
  call('ZREM', OUTSTANDING, '')
end

for index = #deferred, 1, -1 do
  if call('EXISTS', DEFERRED_LANES .. ':' .. deferred[index]) == 0 then
    call('HDEL', DEFERRED_LANES, deferred[index])
    table.remove(deferred, index)
  end
end

local sizes = #too_large > 0 and {} or 0
for index, element in ipairs(too_large) do
  -- It never leaves Redis: a worker would need several times its size in memory.
  sizes[index] = #element
  call('XADD', TOO_LARGE, '*', 'raw', element, 'queue', limits.queue, 'size', #element, 'reason',
       string.format("%d bytes; the queue '%s' takes at most %d", #element, limits.queue, limits.max_size))
  if limits.counts then call('HINCRBY', COUNTERS, 'malformed', 1) end
end
if is_new then
  if #batch > 0 then call('RPUSH', PROCESSING, unpack(batch)) end
  if from_staged > 0 then call('LTRIM', STAGED, from_staged, -1) end
  if from_queue > 0 then call('LTRIM', QUEUE, from_queue, -1) end
end
if #deferred == 0 then deferred = 0 end
if #batch == 0 then
  call('DEL', SEQUENCE)
  call('ZREM', OUTSTANDING, worker)
  return {'', 0, deferred, sizes}
end

if is_new or not sequence then
  -- @include batch_number
  sequence = next_batch_number(last)
  call('SET', LAST_SEQUENCE, sequence)
  call('SET', SEQUENCE, sequence)
  call('ZADD', OUTSTANDING, sequence, worker)
end
local preceding = no_others and 0 or call('ZCOUNT', OUTSTANDING, '-inf', '(' .. sequence)
return {sequence, preceding, deferred, sizes, unpack(batch)}
