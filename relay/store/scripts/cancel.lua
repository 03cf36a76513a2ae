-- Takes back a message that is not in flight yet.
--
-- KEYS   1..22 the lane, 23.. the in-flight hashes of all living workers
-- ARGV   1 the application's id, 2 lifo ('1' or '0')
-- reply  'cancelled', 'in flight' or 'unknown'

check_types()

local ticket = call('HGET', IDS, ARGV[1])
if not ticket then return 'unknown' end
local record = call('HGET', BODIES, ticket)
if not record then return 'unknown' end
local header = header_of(record)
-- Of a fan-out nothing is in flight but those of its targets that are messages of their own.
for index = 23, header[FAN] == 0 and #KEYS or 0 do
  if call('HEXISTS', KEYS[index], ticket) == 1 then return 'in flight' end
end
call('HDEL', BODIES, ticket)
call('HDEL', TRIES, ticket)
call('ZREM', DUE, ticket)
count('cancelled', close(ticket, header, 'cancelled', 'taken back', 0, ARGV[2] == '1'))
return 'cancelled'
