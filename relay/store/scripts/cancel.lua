-- Takes back a message that is not in flight yet.
--
-- @key INFLIGHT_HASHES...  of all living workers: ticket -> fencing token
-- ARGV   1 the application's id, 2 policy (MessagePack map): lifo, journal (see parts/journal.lua)
-- reply  'cancelled', 'in flight' or 'unknown'

-- @include lane
local policy = cmsgpack.unpack(ARGV[2])
-- @include count
-- @include check_types
-- @include records
-- @include close
-- @include journal

local ticket = call('HGET', IDS, ARGV[1])
if not ticket then return 'unknown' end
local record = call('HGET', BODIES, ticket)
if not record then return 'unknown' end
local header = header_of(record)
-- Nothing of a fan-out is in flight except those of its targets that are messages of their own.
for index = 1, not header.targets and #INFLIGHT_HASHES or 0 do
  if call('HEXISTS', INFLIGHT_HASHES[index], ticket) == 1 then return 'in flight' end
end
call('HDEL', BODIES, ticket)
call('HDEL', TRIES, ticket)
call('ZREM', DUE, ticket)
if header.group then
  -- @include group_member
  call('ZREM', WAITING[ticket % 4 + 1], group_member(header.group, ticket))
end
call('HDEL', SUSPECTS, ticket)
journal(record, 'cancelled', 'taken back', 0)
count('cancelled', close(ticket, header, 'cancelled', 'taken back', 0, policy.lifo))
return 'cancelled'
