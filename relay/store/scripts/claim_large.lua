-- Hands out messages of normal priority without a header, as parts/claim_plain.lua does, but without the records of those
-- in LARGE: the worker reads these itself. Redis's Lua would look at every byte of them.
--
-- @key INFLIGHT  hash of the claiming worker: ticket -> fencing token
-- ARGV   1 how many messages are wanted
-- reply  {1 if there may be more now, microseconds until a message is due (-1: none), fencing token, messages that this
--        worker holds, ticket, record, …}; the record is '' if the worker has to read it. nil if claim.lua has to do it:
--        nothing was handed out. 0 if nothing waits, so that LARGE is empty
--
-- Atomic because no message may be out without being on its worker's list.

-- @include clock
-- @include large
-- @include numbers

if call('EXISTS', READY[1], READY[3], FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0 then return false end
local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'grouped', 'override', 'fencing_token', 'claimed')
if control[1] or control[2] or control[3] or control[4] or control[5] then return false end
local first_due = tonumber(call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2])
if first_due and first_due <= NOW then return false end
-- All keys are read before the first write (see parts/check_types.lua). LPOP comes first of the writes, so that under
-- maxmemory the others are not refused (see parts/lane.lua).
local held, some_tried = call('HLEN', INFLIGHT), call('HLEN', TRIES) > 0
call('HLEN', LARGE)
call('HLEN', BODIES)
local tickets = call('LPOP', READY[2], ARGV[1])
local wait = first_due and (first_due - NOW) * 1000 or -1
if not tickets then
  call('DEL', LARGE) -- tickets that claim.lua has handed out
  return {0, wait, 0, held}
end

local function put_back()
  for index = #tickets, 1, -1 do call('LPUSH', READY[2], tickets[index]) end
  return false
end

local large, small, records = call('HMGET', LARGE, unpack(tickets)), {}, {}
for index = 1, #tickets do
  if not large[index] then small[#small + 1] = tickets[index] end
end
if #small == #tickets then return put_back() end
if #small > 0 then
  if some_tried then
    local tries = call('HMGET', TRIES, unpack(small))
    for index = 1, #small do
      if tries[index] then return put_back() end
    end
  end
  records = call('HMGET', BODIES, unpack(small))
  for index = 1, #small do
    local high, low = string.byte(records[index] or '\0\0', 1, 2)
    if low ~= 0 or high ~= 0 then return put_back() end
  end
end

local token = whole(last_number(control[6]) + 1)
local reply, leases, total, next_small = {0, wait, tonumber(token), held}, {}, 0, 0
for index = 1, #tickets do
  local ticket, record = tickets[index], ''
  if not large[index] then
    next_small = next_small + 1
    record = records[next_small]
  elseif call('HEXISTS', BODIES, ticket) == 0 then
    record = false
  end
  if record then
    reply[5 + 2 * total], reply[6 + 2 * total] = ticket, record
    leases[2 * total + 1], leases[2 * total + 2] = ticket, token
    total = total + 1
  end
end
call('HDEL', LARGE, unpack(tickets))
if total > 0 then
  call('HSET', INFLIGHT, LONG_FIELD, '', unpack(leases))
  call('HDEL', INFLIGHT, LONG_FIELD)
  call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole((control[7] or 0) + total))
  reply[4] = held + total
end
if #tickets == tonumber(ARGV[1]) then reply[1] = 1 end
return reply
