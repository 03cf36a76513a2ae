-- Forgets a batch that a worker has put into lanes, and hands it the next one of a queue.
--
-- KEYS   1 the application's list, 2 elements that blocking waits have moved off it, 3 this worker's
--        processing list, 4 the number of the batch on it, 5 rejected elements, 6 the batches that are out,
--        7 the number of the last batch, 8 a hash whose fields are the lanes that have deferred elements,
--        9 the stream for elements that are too large, 10 the control hash to count them in
--        11.. if one Redis holds all: the control hashes of the lanes that have got parts of the batch
-- ARGV   1 the worker
--        2 number of the batch that is done, '' for none; where another one is on the processing list,
--          nothing is forgotten: the answer was lost, or a failover has undone something
--        3 the most elements to hand out; 0: only what is on the processing list
--        4 bytes after which a batch is full
--        5 the field of KEYS 11.. that holds the number of the last batch that came from this worker
--        6 bytes of an element that a worker may read (0: any number), 7 the same for one that may have targets
--        8 the queue's name, 9 '1' if KEYS[10] counts, 10 bytes that the queue allows, for the reason
--        11 how many elements of the batch belong to no provider; then for each: reason, raw bytes
--        then for each element whose lane refuses messages: the lane, raw bytes
-- reply  {number, batches that are out and were taken before, lanes with deferred elements, sizes of elements
--        that were too large, element, …}: the rest of the processing list, otherwise a new batch; number ''
--        if there is none
--
-- Atomic because an element must always be on one of the lists, and numbers must follow their order.

local list, staged, processing, number_key, out = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local deferred_lanes = KEYS[8]
local worker, most, full = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local longest, longest_with_targets = tonumber(ARGV[6]), tonumber(ARGV[7])
if longest == 0 then longest = math.huge end

-- See lane.lua: under maxmemory, too.
redis.call('ZREM', out, '')

-- See lane.lua: reads of all keys come before the first write that moves anything.
local last = redis.call('GET', KEYS[7])
if ARGV[11] ~= '0' then redis.call('XLEN', KEYS[5]) end
redis.call('LLEN', staged)
local deferred = redis.call('HKEYS', deferred_lanes)

local number = redis.call('GET', number_key)
local done = number and number == ARGV[2]
for index = 11, #KEYS do done = done and redis.call('HGET', KEYS[index], ARGV[5]) == number end
if done then
  redis.call('LLEN', processing)
  local first_deferred = 12 + 2 * tonumber(ARGV[11])
  for index = first_deferred, #ARGV, 2 do redis.call('LLEN', deferred_lanes .. ':' .. ARGV[index]) end
  for index = 12, first_deferred - 1, 2 do
    redis.call('XADD', KEYS[5], '*', 'raw', ARGV[index + 1], 'reason', ARGV[index])
  end
  for index = first_deferred, #ARGV, 2 do
    redis.call('RPUSH', deferred_lanes .. ':' .. ARGV[index], ARGV[index + 1])
    if redis.call('HSET', deferred_lanes, ARGV[index], '') == 1 then deferred[#deferred + 1] = ARGV[index] end
  end
  redis.call('DEL', processing, number_key)
  redis.call('ZREM', out, worker)
  number = false
end

for index = #deferred, 1, -1 do
  if redis.call('EXISTS', deferred_lanes .. ':' .. deferred[index]) == 0 then
    redis.call('HDEL', deferred_lanes, deferred[index])
    table.remove(deferred, index)
  end
end

local function is_too_large(element)
  return #element > longest_with_targets or not string.find(element, '"targets"', 1, true)
end

local batch, too_large = redis.call('LRANGE', processing, 0, -1), {}
if #batch == 0 then
  local size, taken = 0, {}
  for _, key in ipairs({staged, list}) do
    local more, count = true, 0
    while more and #batch < most and size < full do
      -- No more than is likely to fit: Redis's Lua looks at every byte of what it is given.
      local fit = size > 0 and math.ceil((full - size) * (#batch + #too_large) / size) or 1
      fit = math.min(fit, most - #batch)
      local found = redis.call('LRANGE', key, count, count + fit - 1)
      more = #found == fit
      for _, element in ipairs(found) do
        if size < full then
          count = count + 1
          size = size + #element
          if #element > longest and is_too_large(element) then
            too_large[#too_large + 1] = element
          else
            batch[#batch + 1] = element
          end
        end
      end
    end
    taken[key] = count
  end
  if #too_large > 0 then
    redis.call('XLEN', KEYS[9])
    if ARGV[9] == '1' then redis.call('HLEN', KEYS[10]) end
  end
  for index, element in ipairs(too_large) do
    -- It never leaves Redis: a worker would need several times its size in memory.
    too_large[index] = #element
    redis.call('XADD', KEYS[9], '*', 'raw', element, 'queue', ARGV[8], 'size', #element, 'reason',
               string.format("%d bytes; the queue '%s' takes at most %d", #element, ARGV[8], ARGV[10]))
    if ARGV[9] == '1' then redis.call('HINCRBY', KEYS[10], 'malformed', 1) end
  end
  if #batch > 0 then redis.call('RPUSH', processing, unpack(batch)) end
  for key, count in pairs(taken) do
    if count > 0 then redis.call('LTRIM', key, count, -1) end
  end
  if #batch == 0 then
    redis.call('ZREM', out, worker)
    return {'', 0, deferred, too_large}
  end
  number = false
end
if not number then
  -- What was given out once is not given out again, or a lane would take the second batch for the first:
  -- not if a failover has undone it, hence the clock, and not if the clock was set back.
  local time = redis.call('TIME')
  number = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(last or 0) + 1)
  number = string.format('%.0f', number)
  redis.call('SET', KEYS[7], number)
  redis.call('SET', number_key, number)
  redis.call('ZADD', out, number, worker)
end
return {number, redis.call('ZCOUNT', out, '-inf', '(' .. number), deferred, too_large, unpack(batch)}
