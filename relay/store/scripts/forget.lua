-- Drops letters of an outbox that have been forwarded to their targets.
--
-- @key OUTBOX
-- @key CONTROL      the lane's control hash
-- @key LAST_IDS...  if one Redis holds all: the hashes of the targets, with the last letter that arrived
-- ARGV   1 the first id of a letter to keep
--        2 the lane
--        3 how many of the letters are lost: their target cannot be written
--        then for each of LAST_IDS: id of the last letter that was forwarded there
-- reply  1, or 0 if a failover has undone the forwarding: then nothing is dropped
--
-- Atomic because the letters must have come to where Redis is now, not to where it was.

local FIRST_ID = 4 -- argument

local call = redis.call

for index = 1, #LAST_IDS do
  local last = call('TYPE', LAST_IDS[index]).ok == 'hash' and call('HGET', LAST_IDS[index], ARGV[2])
  local ms, sequence = string.match(last or '0-0', '^(%d+)-(%d+)$')
  local wanted_ms, wanted_sequence = string.match(ARGV[FIRST_ID - 1 + index], '^(%d+)-(%d+)$')
  ms, wanted_ms = tonumber(ms or 0), tonumber(wanted_ms)
  if ms < wanted_ms or (ms == wanted_ms and tonumber(sequence or 0) < tonumber(wanted_sequence)) then return 0 end
end
local dropped = call('XTRIM', OUTBOX, 'MINID', '=', ARGV[1])
-- If another worker dropped them first, it has counted them.
if dropped > 0 and ARGV[3] ~= '0' then redis.pcall('HINCRBY', CONTROL, 'outbox_lost', ARGV[3]) end
return 1
