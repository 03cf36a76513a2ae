-- Takes back a message that is not in flight yet.
--
-- KEYS   1..14 the lane, 15.. the in-flight hashes of all living workers
-- ARGV   1 the application's id, 2 lifo ('1' or '0')
-- reply  'cancelled', 'in flight' or 'unknown'

local ticket = call('HGET', IDS, ARGV[1])
if not ticket then return 'unknown' end
for index = 15, #KEYS do
  if call('HEXISTS', KEYS[index], ticket) == 1 then return 'in flight' end
end
local record = call('HGET', BODIES, ticket)
if not record then return 'unknown' end
call('HDEL', BODIES, ticket)
call('HDEL', TRIES, ticket)
call('ZREM', DUE, ticket)
close(ticket, header_of(record), 'cancelled', 'taken back', 0, ARGV[2] == '1')
count('cancelled', 1)
return 'cancelled'
