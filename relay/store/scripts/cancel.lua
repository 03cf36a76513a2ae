-- Takes back a message that is not in flight yet.
--
-- @key INFLIGHT_HASHES...  of all living workers: ticket -> fencing token
-- ARGV   1 the id, 2 policy (MessagePack map): lifo, journal (see parts/journal.lua)
--        3 the ticket of a message whose id is in no index, because relay made it; else ''
-- reply  'cancelled', 'in flight' or 'unknown'

-- @include lane
local policy = cmsgpack.unpack(ARGV[2])
-- @include count
-- @include check_types
-- @include records
-- @include close
-- @include journal

local id, found = ARGV[1], ARGV[3]
local ticket = found ~= '' and found or call('HGET', IDS, id)
if not ticket then return 'unknown' end
local record = call('HGET', BODIES, ticket)
-- A newer message with its collapse key may have taken the ticket since it was found.
if not record or found ~= '' and message_of(record)[1] ~= id then return 'unknown' end
local header = header_of(record)
-- Nothing of a fan-out is in flight except those of its targets that are messages of their own.
for index = 1, not (header and header.targets) and #INFLIGHT_HASHES or 0 do
  if call('HEXISTS', INFLIGHT_HASHES[index], ticket) == 1 then return 'in flight' end
end
call('HDEL', BODIES, ticket)
call('HDEL', TRIES, ticket)
call('ZREM', DUE, ticket)
if header and header.group then
  -- @include group_member
  call('ZREM', WAITING[ticket % 4 + 1], group_member(header.group, ticket))
end
call('HDEL', SUSPECTS, ticket)
journal(record, 'cancelled', 'taken back', 0)
count('cancelled', header and close(ticket, header, 'cancelled', 'taken back', 0, policy.lifo) or 1)
return 'cancelled'
