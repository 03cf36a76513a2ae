-- Forgets a batch that a worker has put into lanes, and hands it the next one of a queue.
--
-- KEYS   1 the application's list, 2 elements that blocking waits have moved off it, 3 this worker's
--        processing list, 4 the number of the batch on it, 5 rejected elements, 6 the batches that are out,
--        7 the number of the last batch
--        8.. where one Redis holds all: the control hashes of the lanes that have got parts of the batch
-- ARGV   1 the worker
--        2 number of the batch that is done, '' for none; where another one is on the processing list,
--          nothing is forgotten: the answer was lost, or a failover has undone something
--        3 the most elements to hand out; 0: only what is on the processing list
--        4 bytes after which a batch is full
--        5 the field of KEYS 8.. that holds the number of the last batch that came from this worker
--        then for each element of the batch that belongs to no provider: reason, raw bytes
-- reply  {number, batches that are out and were taken before, element, …}: what was left on the processing
--        list, else a new batch; number '' where there is none
--
-- Atomic because an element must always be on one of the lists, and numbers must follow their order.

local list, staged, processing, number_key, out = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local worker, most, full = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])

-- See lane.lua: under maxmemory, too.
redis.call('ZREM', out, '')

local number = redis.call('GET', number_key)
local done = number and number == ARGV[2]
for index = 8, #KEYS do done = done and redis.call('HGET', KEYS[index], ARGV[5]) == number end
if done then
  for index = 6, #ARGV, 2 do
    redis.call('XADD', KEYS[5], '*', 'raw', ARGV[index + 1], 'reason', ARGV[index])
  end
  redis.call('DEL', processing, number_key)
  redis.call('ZREM', out, worker)
  number = false
end

local batch = redis.call('LRANGE', processing, 0, -1)
if #batch == 0 then
  local size = 0
  for _, key in ipairs({staged, list}) do
    local taken, more = 0, true
    while more and #batch < most and size < full do
      -- No more than is likely to fit: Redis's Lua looks at every byte of what it is given.
      local fit = size > 0 and math.ceil((full - size) * #batch / size) or 1
      fit = math.min(fit, most - #batch)
      local found = redis.call('LRANGE', key, taken, taken + fit - 1)
      more = #found == fit
      for _, element in ipairs(found) do
        if size < full then
          taken = taken + 1
          batch[#batch + 1] = element
          size = size + #element
        end
      end
    end
    if taken > 0 then redis.call('LTRIM', key, taken, -1) end
  end
  if #batch == 0 then
    redis.call('ZREM', out, worker)
    return {'', 0}
  end
  redis.call('RPUSH', processing, unpack(batch))
  number = false
end
if not number then
  -- What was given out once is not given out again, or a lane would take the second batch for the first:
  -- not if a failover has undone it, hence the clock, and not if the clock was set back.
  local time, last = redis.call('TIME'), redis.call('GET', KEYS[7])
  number = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(last or 0) + 1)
  number = string.format('%.0f', number)
  redis.call('SET', KEYS[7], number)
  redis.call('SET', number_key, number)
  redis.call('ZADD', out, number, worker)
end
return {number, redis.call('ZCOUNT', out, '-inf', '(' .. number), unpack(batch)}
