-- Puts a batch of messages without a header into a lane without groups and without a limit, after the worker has written
-- their records to BODIES in the same transaction. So Redis's Lua, which looks at every byte of its strings, does not
-- meet the records. enqueue_plain.lua does the same for small messages.
--
-- ARGV   1 the batch id, a field of the control hash, '' for none
--        2 sequence number of the batch
--        3 '1' if claims may leave the records to the worker: LARGE lists these tickets
--        4.. tickets, which are reserved for this call
-- reply  {accepted, messages that may go now}; both 0 if a batch with this number is in the lane, under other tickets
--
-- Atomic because a batch must not be enqueued twice. If the messages do not enter the lane, their records are deleted.

local FIRST = 4 -- the argument with the first ticket

-- @include large

local call = redis.call

-- Under maxmemory the other commands are then not refused (see parts/lane.lua).
call('HDEL', CONTROL, '')

-- All keys are read before the first write (see parts/check_types.lua).
local saved, ready, listed
local fine, problem = pcall(function()
  saved = call('HMGET', CONTROL, 'accepted', ARGV[1])
  ready = call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
  listed = call('HLEN', LARGE)
  if call('HEXISTS', BODIES, ARGV[FIRST]) == 0 then error('the records are missing') end
end)
if not fine or ARGV[1] ~= '' and saved[2] == ARGV[2] then
  redis.pcall('HDEL', BODIES, unpack(ARGV, FIRST))
  if not fine then error(problem) end
  return {0, 0}
end

-- Tickets that claim.lua has handed out stay in LARGE. It may be deleted at any time: claims then read all records.
if listed > 2 * ready then call('DEL', LARGE) end
local lists, large = {{}, {}, {}}, {LONG_FIELD, ''}
for index = FIRST, #ARGV do
  local ticket = ARGV[index]
  local list = lists[ticket % 4 + 1]
  list[#list + 1] = ticket
  large[#large + 1], large[#large + 2] = ticket, ''
end
for level = 1, 3 do
  if #lists[level] > 0 then call('RPUSH', READY[level], unpack(lists[level])) end
end
if ARGV[3] == '1' then
  call('HSET', LARGE, unpack(large))
  call('HDEL', LARGE, LONG_FIELD)
end
local total = #ARGV - FIRST + 1
-- @include whole
local accepted = whole((saved[1] or 0) + total)
if ARGV[1] == '' then
  call('HSET', CONTROL, 'accepted', accepted)
else
  call('HSET', CONTROL, 'accepted', accepted, ARGV[1], ARGV[2])
end
return {total, ready + total}
