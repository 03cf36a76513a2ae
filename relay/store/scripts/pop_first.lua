-- Takes the first element off a dead worker's processing list: it is in its lane, a dead letter, or waits for
-- its lane.
--
-- KEYS   1 the processing list, 2 a hash whose fields are the workers that have
--        begun to finish the batch, 3 the queue's dead letters, 4 a hash whose fields are the lanes that have
--        deferred elements, 5 the deferred elements of the lane in ARGV[3]
-- ARGV   1 the element, 2 '' or the reason for which it becomes a dead letter
--        3 '' or the lane that it is to wait for
--        4.. the fields of KEYS[2] from now on
-- reply  1, or 0 if another worker has done it
--
-- Atomic because the next element starts with a count of its own.

if redis.call('LRANGE', KEYS[1], 0, 0)[1] ~= ARGV[1] then return 0 end
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
redis.call('LPOP', KEYS[1])
if ARGV[2] ~= '' then redis.call('XADD', KEYS[3], '*', 'raw', ARGV[1], 'reason', ARGV[2]) end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[3], '')
  redis.call('RPUSH', KEYS[5], ARGV[1])
end
redis.call('DEL', KEYS[2])
for index = 4, #ARGV do redis.call('HSET', KEYS[2], ARGV[index], '') end
return 1
