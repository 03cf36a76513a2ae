-- What all lane scripts share; the loader puts it in front of each of them.
--
-- KEYS 1..14 are the keys of one lane, in the order of relay/store/keys.py; KEYS[15], where a
-- script uses it, is the in-flight hash of one worker. All share one hash slot.
--
-- A ticket is the number of a message within its lane: sequence * 4 + priority (0 high, 1 normal,
-- 2 low). Tickets are never used twice, so a list may hold one whose message has ended long ago:
-- it has no body any more, and whoever meets it passes on.

local CONTROL, BODIES, TRIES, IDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local READY = {KEYS[5], KEYS[6], KEYS[7]}
local DUE, DEAD, COLLAPSE, ORDERING = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local PARKED, SEEN, OUTBOX, INFLIGHT = KEYS[12], KEYS[13], KEYS[14], KEYS[15]

local call = redis.call
local EXPIRES, ID, COLLAPSE_KEY, ORDERING_KEY, REPLY_TO, DELIVER = 1, 2, 3, 4, 5, 6

local TIME = call('TIME')
local NOW_US = tonumber(TIME[1]) * 1000000 + tonumber(TIME[2])
local NOW = math.floor(NOW_US / 1000)

-- The header of a record, or nil where the message asks for nothing special.
local function header_of(record)
  local high, low = string.byte(record, 1, 2)
  if low == 0 and high == 0 then return nil end
  return cmsgpack.unpack(string.sub(record, 3, 2 + high * 256 + low))
end

local function ready_list(ticket)
  return READY[tonumber(ticket) % 4 + 1]
end

-- Puts a ticket where the next claim takes it first.
local function to_head(ticket, lifo)
  call(lifo and 'RPUSH' or 'LPUSH', ready_list(ticket), ticket)
end

local function count(field, by)
  if by > 0 then call('HINCRBY', CONTROL, field, by) end
end

-- A receipt waits in the lane's own slot until it is carried to the list that the message named.
local function receipt(header, outcome, reason, attempts)
  if header[REPLY_TO] == '' then return end
  call('RPUSH', OUTBOX, cmsgpack.pack({
    'receipt', header[REPLY_TO], header[ID], outcome, reason, tonumber(attempts), NOW,
  }))
end

local function parking(ordering_key, ticket)
  return #ordering_key .. ':' .. ordering_key .. ':' .. string.format('%016.0f', tonumber(ticket))
end

-- Where a message may go next: its time, else its list.
local function admit(ticket, header, lifo)
  if header[DELIVER] > NOW then
    call('ZADD', DUE, header[DELIVER], ticket)
  else
    to_head(ticket, lifo)
  end
end

-- The message has ended: lets the next one of its ordering key go.
local function pass_turn(ticket, header, lifo)
  local key = header[ORDERING_KEY]
  if key == '' then return end
  if call('HGET', ORDERING, key) ~= ticket then
    call('ZREM', PARKED, parking(key, ticket))
    return
  end
  local prefix = #key .. ':' .. key .. ':'
  while true do
    local member = call('ZRANGEBYLEX', PARKED, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, 1)[1]
    if not member then
      call('HDEL', ORDERING, key)
      return
    end
    call('ZREM', PARKED, member)
    local next_ticket = string.format('%.0f', tonumber(string.sub(member, #prefix + 1)))
    local record = call('HGET', BODIES, next_ticket)
    if record then
      call('HSET', ORDERING, key, next_ticket)
      admit(next_ticket, header_of(record), lifo)
      return
    end
  end
end

-- Ends a message that has a header: forgets its id, its keys, and writes its receipt. The caller
-- removes the body. `ticket` is a string.
local function close(ticket, header, outcome, reason, attempts, lifo)
  if header[ID] ~= '' and call('HGET', IDS, header[ID]) == ticket then
    call('HDEL', IDS, header[ID])
  end
  if header[COLLAPSE_KEY] ~= '' and call('HGET', COLLAPSE, header[COLLAPSE_KEY]) == ticket then
    call('HDEL', COLLAPSE, header[COLLAPSE_KEY])
  end
  pass_turn(ticket, header, lifo)
  receipt(header, outcome, reason, attempts)
end

-- A dead letter keeps the whole message and all that is known about its end.
local function bury(ticket, record, reason, status, body, attempts)
  call('XADD', DEAD, '*', 'ticket', ticket, 'record', record, 'reason', reason,
       'status', status, 'body', body, 'attempts', attempts)
end

local function waiting()
  return call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
      + call('ZCARD', DUE) + call('ZCARD', PARKED)
end
