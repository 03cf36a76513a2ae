-- Forgets what a worker has put into lanes, and hands it the next batch of a queue.
--
-- KEYS   1 the application's list, 2 this worker's processing list, 3 its turn, 4 rejected elements
-- ARGV   1 number of this turn: a repeated call with the same number forgets nothing twice
--        2 number of the turn whose elements are done
--        3 how many elements are done; where they are not just what is on the processing list, none is
--          forgotten: a failover has undone something, or an element came over a connection that was
--          given up
--        4 the most elements to hand out; 0: only forget
--        5 bytes after which a batch is full
--        then for each element of them that belongs to no provider: reason, raw bytes
-- reply  the elements on the processing list: what was left there, else a new batch
--
-- Atomic because an element must always be on one of the two lists.

local done, most, full = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local turn = redis.call('GET', KEYS[3]) or '0'
if turn ~= ARGV[1] then
  redis.call('SET', KEYS[3], ARGV[1], 'EX', 86400)
  if done > 0 and turn == ARGV[2] and redis.call('LLEN', KEYS[2]) == done then
    for index = 6, #ARGV, 2 do
      redis.call('XADD', KEYS[4], '*', 'raw', ARGV[index + 1], 'reason', ARGV[index])
    end
    redis.call('DEL', KEYS[2])
  end
end
local left = redis.call('LRANGE', KEYS[2], 0, -1)
if #left > 0 or most == 0 then return left end

local batch = redis.call('LRANGE', KEYS[1], 0, most - 1)
local size, taken = 0, {}
for index, element in ipairs(batch) do
  taken[index] = element
  size = size + #element
  if size >= full then break end
end
if #taken > 0 then
  redis.call('RPUSH', KEYS[2], unpack(taken))
  redis.call('LTRIM', KEYS[1], #taken, -1)
end
return taken
