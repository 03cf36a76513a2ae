-- Takes the first element off a dead worker's processing list: it is in its lane, a dead letter, or waits for
-- its lane.
--
-- @key PROCESSING      the processing list
-- @key RECOVERERS      hash: its fields are the workers that have begun to finish the batch
-- @key REJECTED        the queue's dead letters
-- @key DEFERRED_LANES  hash: its fields are the lanes that have deferred elements
-- @key DEFERRED        list: the deferred elements of the lane in ARGV[3]
-- ARGV   1 the element, 2 '' or the reason for which it becomes a dead letter
--        3 '' or the lane that it is to wait for
--        4.. the fields of RECOVERERS from now on
-- reply  1, or 0 if another worker has done it
--
-- Atomic because the next element starts with a count of its own.

if redis.call('LRANGE', PROCESSING, 0, 0)[1] ~= ARGV[1] then return 0 end
redis.call('HLEN', RECOVERERS)
redis.call('XLEN', REJECTED)
redis.call('HLEN', DEFERRED_LANES)
redis.call('LLEN', DEFERRED)
redis.call('LPOP', PROCESSING)
if ARGV[2] ~= '' then redis.call('XADD', REJECTED, '*', 'raw', ARGV[1], 'reason', ARGV[2]) end
if ARGV[3] ~= '' then
  redis.call('HSET', DEFERRED_LANES, ARGV[3], '')
  redis.call('RPUSH', DEFERRED, ARGV[1])
end
redis.call('DEL', RECOVERERS)
for index = 4, #ARGV do redis.call('HSET', RECOVERERS, ARGV[index], '') end
return 1
