-- Takes back a message that is not in flight yet.
--
-- @key INFLIGHT_HASHES...  of all living workers: ticket -> fencing token
-- ARGV   1 the application's id, 2 lifo ('1' or '0')
-- reply  'cancelled', 'in flight' or 'unknown'

-- @include lane
-- @include count
-- @include check_types
-- @include records
-- @include close

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
count('cancelled', close(ticket, header, 'cancelled', 'taken back', 0, ARGV[2] == '1'))
return 'cancelled'
