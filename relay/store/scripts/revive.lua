-- Puts dead letters back into their lane as new messages; they pass the limiter like all others.
--
-- ARGV   1 the priority to give them: 0 high, 1 normal, 2 low; '' for that which they had
--        2.. ids of entries of the dead stream
-- reply  {revived, passed over because the same id is pending again, gone}

-- @include lane
-- @include count
-- @include numbers
-- @include records
-- @include group_member
-- @include check_types

local revived, passed, gone = 0, 0, 0
for index = 2, #ARGV do
  local entry = call('XRANGE', DEAD, ARGV[index], ARGV[index])[1]
  local letter = {}
  if entry then
    for field = 1, #entry[2], 2 do letter[entry[2][field]] = entry[2][field + 1] end
  end
  local record = letter.record
  local header = record and header_of(record)
  if not record then
    gone = gone + 1
  elseif header and header.id and call('HEXISTS', IDS, header.id) == 1 then
    passed = passed + 1
  else
    local ticket = whole((reserve_numbers('sequence', 1) + 1) * 4 + (tonumber(ARGV[1]) or letter.ticket % 4))
    if header and (header.targets or header.part_of) then
      -- It was part of a fan-out, which has had its receipt: now it stands for itself.
      local body = string.sub(record, 3 + string.byte(record, 1) * 256 + string.byte(record, 2))
      header.targets, header.part_of = nil, nil
      local packed = cmsgpack.pack(header)
      record = string.char(math.floor(#packed / 256), #packed % 256) .. packed .. body
    end
    call('HSET', BODIES, ticket, record)
    local key = header and header.ordering_key
    if header and header.id then call('HSET', IDS, header.id, ticket) end
    if key and call('HSETNX', ORDERING, key, ticket) == 0 then
      call('ZADD', BLOCKED, 0, group_member(key, ticket))
    else
      if header and header.group then
        -- @include wait_in_group
        wait_in_group(ticket, header.group)
      else
        call('RPUSH', READY[ticket % 4 + 1], ticket)
      end
    end
    call('XDEL', DEAD, ARGV[index])
    revived = revived + 1
  end
end
count('revived', revived)
return {revived, passed, gone}
