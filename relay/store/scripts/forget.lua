-- Drops letters of an outbox that have been carried to where they are for.
--
-- KEYS   1 the outbox
--        2.. where one Redis holds all: the hashes beside the targets, with the last letter that came there
-- ARGV   1 the first id of a letter to keep
--        2 the lane
--        then for each of KEYS 2..: id of the last letter that was carried there
-- reply  1, or 0 where a failover has undone what was carried: then nothing is dropped
--
-- Atomic because the letters must have come to where Redis is now, not to where it was.

for index = 2, #KEYS do
  local last = redis.call('HGET', KEYS[index], ARGV[2])
  local ms, sequence = string.match(last or '0-0', '^(%d+)-(%d+)$')
  local wanted_ms, wanted_sequence = string.match(ARGV[index + 1], '^(%d+)-(%d+)$')
  ms, wanted_ms = tonumber(ms), tonumber(wanted_ms)
  if ms < wanted_ms or (ms == wanted_ms and tonumber(sequence) < tonumber(wanted_sequence)) then return 0 end
end
redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
return 1
