-- Puts letters of one lane into the keys that they are for, each once, whichever worker forwards them, and how often.
--
-- @key TARGET   the application's list, or the feedback stream
-- @key LAST_IDS  hash next to it: lane -> id of the last letter that came from there
-- @key? OUTBOX  if one Redis holds all: the outbox that they were read from
-- ARGV   1 the lane
--        2 Unix milliseconds after which it is too late: another worker may have forwarded them, and the
--          id in LAST_IDS may be forgotten
--        3 the most receipts to keep, or entries of the stream
--        4 'list' or 'stream'
--        5 'keep', or 'done' when the letters have left the outbox: LAST_IDS is soon not needed any more
--        then for each letter, the oldest first: id, text; for a stream a MessagePack array of its fields
-- reply  'ok', 'late', 'stale' if they are no longer in the outbox (another worker has forwarded them, or a
--        failover has undone them), or 'wrong type' if TARGET holds something else
--
-- Atomic because a letter must not be there twice, and none be passed over.

local call = redis.call
local KEEP = 86400 -- seconds
local SOON = 120 -- seconds
local LONGEST = 65536

local kind = call('TYPE', TARGET).ok
if kind ~= 'none' and kind ~= ARGV[4] then return 'wrong type' end
-- The hash is relay's own and lives for a day at most: a key of another type under its name is worthless.
local last = call('TYPE', LAST_IDS).ok
if last ~= 'none' and last ~= 'hash' then call('DEL', LAST_IDS) end

-- See parts/lane.lua: under maxmemory, too.
call('HDEL', LAST_IDS, '')

local time = call('TIME')
if tonumber(time[1]) * 1000 > tonumber(ARGV[2]) then return 'late' end

local function at_or_before(one, other)
  local ms, sequence = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_sequence = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or (ms == other_ms and tonumber(sequence) <= tonumber(other_sequence))
end

local last = call('HGET', LAST_IDS, ARGV[1]) or '0-0'
if not string.match(last, '^%d+%-%d+$') then last = '0-0' end
if ARGV[5] == 'done' then
  -- Unless a later letter came meanwhile, which may not have left the outbox.
  if last == ARGV[6] then call('EXPIRE', LAST_IDS, SOON) end
  return 'ok'
end
if OUTBOX then
  for index = 6, #ARGV, 2 do
    if #call('XRANGE', OUTBOX, ARGV[index], ARGV[index]) == 0 then return 'stale' end
  end
end

-- Receipts have these fields. The list may be another program's, and only receipts are relay's to remove.
local function is_receipt(text)
  if #text > LONGEST then return false end
  local good, told = pcall(cjson.decode, text)
  return good and type(told) == 'table' and told.id and told.provider and told.outcome and told.at
end

-- Removes the oldest receipts beyond the limit, up to the first entry that is none.
local function trim(surplus)
  local removed = 0
  while removed < surplus and is_receipt(call('LRANGE', TARGET, removed, removed)[1]) do
    removed = removed + 1
  end
  -- A user without this right still gets the letters.
  if removed > 0 then redis.pcall('LTRIM', TARGET, removed, -1) end
end

-- Before the first letter, so that a user without the right to note them cannot write them either.
call('HSET', LAST_IDS, ARGV[1], last)
call('EXPIRE', LAST_IDS, KEEP)
local length, pushed = 0, 0
for index = 6, #ARGV, 2 do
  local id, text = ARGV[index], ARGV[index + 1]
  if not at_or_before(id, last) then
    last = id
    if ARGV[4] == 'list' then
      length, pushed = call('RPUSH', TARGET, text), pushed + 1
    else
      call('XADD', TARGET, 'MAXLEN', '~', ARGV[3], '*', unpack(cmsgpack.unpack(text)))
    end
  end
end
call('HSET', LAST_IDS, ARGV[1], last)
-- Twice as many as came, so that a list that was too long gets shorter; never more, to be quick.
trim(math.min(length - ARGV[3], 2 * pushed))
return 'ok'
