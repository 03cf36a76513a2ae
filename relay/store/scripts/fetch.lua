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
--        5 the batch id: the field of LANES that holds the number of the last batch that came from this worker
--        6 bytes of an element that a worker may read (0: any number), 7 the same for one that may have targets
--        8 the queue's name, 9 '1' if COUNTERS counts, 10 bytes that the queue allows, for the reason
--        11 how many elements of the batch belong to no provider; then for each: reason, raw bytes
--        then for each element whose lane refuses messages: the lane, raw bytes
-- reply  {number, batches that are outstanding and were taken before, lanes with deferred elements, sizes of elements
--        that were too large, element, …}: the rest of the processing list, otherwise a new batch; number ''
--        if there is none
--
-- Atomic because an element must always be on one of the lists, and numbers must follow their order.

local FIRST_REJECTED = 12 -- argument

local call = redis.call
local worker, most, full = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local longest, longest_with_targets = tonumber(ARGV[6]), tonumber(ARGV[7])
if longest == 0 then longest = math.huge end

-- Under maxmemory the rest is not refused if this came first (see parts/lane.lua).
call('ZREM', OUTSTANDING, '')

-- Every key is read before the first write that moves anything: a wrong type raises an error while all elements are
-- still in their places.
local last, sequence, deferred =
    call('GET', LAST_SEQUENCE), call('GET', SEQUENCE), call('HKEYS', DEFERRED_LANES)
local done = sequence and sequence == ARGV[2]
for index = 1, #LANES do done = done and call('HGET', LANES[index], ARGV[5]) == sequence end

local batch, too_large, taken = {}, {}, {}
if not done then batch = call('LRANGE', PROCESSING, 0, -1) end
local is_new = #batch == 0
if is_new then
  local size = 0
  for _, key in ipairs({STAGED, QUEUE}) do
    local more, count = true, 0
    while more and #batch < most and size < full do
      -- No more than is likely to fit: Redis's Lua looks at every byte of what it is given.
      local fit = size > 0 and math.ceil((full - size) * (#batch + #too_large) / size) or 1
      fit = math.min(fit, most - #batch)
      local found = call('LRANGE', key, count, count + fit - 1)
      more = #found == fit
      for _, element in ipairs(found) do
        if size < full then
          count = count + 1
          size = size + #element
          if #element > longest
             and (#element > longest_with_targets or not string.find(element, '"targets"', 1, true)) then
            too_large[#too_large + 1] = element
          else
            batch[#batch + 1] = element
          end
        end
      end
    end
    taken[key] = count
  end
end
if #too_large > 0 then
  call('XLEN', TOO_LARGE)
  if ARGV[9] == '1' then call('HLEN', COUNTERS) end
end

if done then
  local first_deferred = FIRST_REJECTED + 2 * ARGV[11]
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
end

for index = #deferred, 1, -1 do
  if call('EXISTS', DEFERRED_LANES .. ':' .. deferred[index]) == 0 then
    call('HDEL', DEFERRED_LANES, deferred[index])
    table.remove(deferred, index)
  end
end

for index, element in ipairs(too_large) do
  -- It never leaves Redis: a worker would need several times its size in memory.
  too_large[index] = #element
  call('XADD', TOO_LARGE, '*', 'raw', element, 'queue', ARGV[8], 'size', #element, 'reason',
       string.format("%d bytes; the queue '%s' takes at most %d", #element, ARGV[8], ARGV[10]))
  if ARGV[9] == '1' then call('HINCRBY', COUNTERS, 'malformed', 1) end
end
if is_new then
  if #batch > 0 then call('RPUSH', PROCESSING, unpack(batch)) end
  for key, count in pairs(taken) do
    if count > 0 then call('LTRIM', key, count, -1) end
  end
end
if #batch == 0 then
  call('DEL', SEQUENCE)
  call('ZREM', OUTSTANDING, worker)
  return {'', 0, deferred, too_large}
end

if is_new or not sequence then
  -- A number is never given to two batches, or a lane would take the second for the first: it follows the clock,
  -- because a failover may have undone LAST_SEQUENCE, and LAST_SEQUENCE, because the clock may have been set back.
  local time = call('TIME')
  sequence = string.format('%.0f', math.max(time[1] * 1000000 + time[2], (last or 0) + 1))
  call('SET', LAST_SEQUENCE, sequence)
  call('SET', SEQUENCE, sequence)
  call('ZADD', OUTSTANDING, sequence, worker)
end
return {sequence, call('ZCOUNT', OUTSTANDING, '-inf', '(' .. sequence), deferred, too_large, unpack(batch)}
