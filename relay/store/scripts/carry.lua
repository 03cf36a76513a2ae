-- Puts letters of one lane where they are for, each once, whoever carries them and however often.
--
-- KEYS   1 the application's list, or the feedback stream
--        2 hash beside it: lane -> id of the last letter that came from there
--        3 where one Redis holds all: the outbox that they were read from
-- ARGV   1 the lane
--        2 Unix milliseconds after which it is too late: somebody else may have carried them, and what
--          is in KEYS[2] be forgotten
--        3 the most entries to keep
--        4 'list' or 'stream'
--        5 'keep', or 'done' when the letters have left the outbox: KEYS[2] is soon not needed any more
--        then for each letter, the oldest first: id, text; of a stream a MessagePack array of its fields
-- reply  'ok', 'late', 'stale' where they are no longer in the outbox (somebody else has carried them, or a
--        failover has undone them), or 'wrong type' where the application keeps something else there
--
-- Atomic because a letter must not be there twice, and none be passed over.

local KEEP, SOON = 86400, 120

-- See lane.lua: under maxmemory, too.
redis.call('HDEL', KEYS[2], '')

local time = redis.call('TIME')
if tonumber(time[1]) * 1000 > tonumber(ARGV[2]) then return 'late' end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= ARGV[4] then return 'wrong type' end

local function at_or_before(one, other)
  local ms, sequence = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_sequence = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or (ms == other_ms and tonumber(sequence) <= tonumber(other_sequence))
end

local last = redis.call('HGET', KEYS[2], ARGV[1]) or '0-0'
if ARGV[5] == 'done' then
  -- Unless a later letter came meanwhile, which may not have left the outbox.
  if last == ARGV[6] then redis.call('EXPIRE', KEYS[2], SOON) end
  return 'ok'
end
if KEYS[3] then
  for index = 6, #ARGV, 2 do
    if #redis.call('XRANGE', KEYS[3], ARGV[index], ARGV[index]) == 0 then return 'stale' end
  end
end
for index = 6, #ARGV, 2 do
  local id, text = ARGV[index], ARGV[index + 1]
  if not at_or_before(id, last) then
    last = id
    if ARGV[4] == 'list' then
      redis.call('RPUSH', KEYS[1], text)
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(cmsgpack.unpack(text)))
    end
  end
end
if ARGV[4] == 'list' then redis.call('LTRIM', KEYS[1], -ARGV[3], -1) end
redis.call('HSET', KEYS[2], ARGV[1], last)
redis.call('EXPIRE', KEYS[2], KEEP)
return 'ok'
