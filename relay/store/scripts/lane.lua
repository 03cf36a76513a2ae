-- What all lane scripts share; the loader puts it in front of each of them.
--
-- KEYS 1..22 are the keys of one lane, in the order of relay/store/keys.py; KEYS[23], where a
-- script uses it, is the in-flight hash of one worker. All share one hash slot.
--
-- A ticket is the number of a message within its lane: sequence * 4 + priority (0 high, 1 normal,
-- 2 low). Tickets are never used twice, so a list may hold one whose message has ended long ago:
-- it has no body any more, and whoever meets it passes on. Redis itself may forget the last seconds
-- when it crashes or fails over, while workers do not: so tickets and claims run ahead with its clock.

local CONTROL, BODIES, TRIES, IDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local READY = {KEYS[5], KEYS[6], KEYS[7]}
local DUE, DEAD, COLLAPSE, ORDERING = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local PARKED, SEEN, OUTBOX = KEYS[12], KEYS[13], KEYS[14]
local FANS, TARGETS, FAN_OUTS = KEYS[15], KEYS[16], {KEYS[17], KEYS[18], KEYS[19]}
local DESTINATIONS, DESTINATIONS_DUE, ASIDE = KEYS[20], KEYS[21], KEYS[22]
local INFLIGHT = KEYS[23]

local call = redis.call
local EXPIRES, ID, COLLAPSE_KEY, ORDERING_KEY, REPLY_TO, DELIVER, FAN, DEST, PUBLIC_ID = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- Under maxmemory Redis refuses what may grow, unless the script has written before: what is there already
-- must go on to where it ends. A write that changes nothing will do.
call('HDEL', CONTROL, '')

-- A script that fails halfway is not rolled back, so every script reads each key that it is going to write
-- before it moves anything: a key that somebody gave another type raises WRONGTYPE while all messages are
-- still where they were. Scripts skip this if they handle only messages without a header, which touch few keys.
-- A lane seldom has the keys that are asked for together, and a key that is not there has no wrong type. The
-- names are local again because each name that a function shares makes all functions after it dearer to create.
local function check_special_types()
  local call, COLLAPSE, ORDERING, PARKED, FANS, TARGETS = redis.call, KEYS[10], KEYS[11], KEYS[12], KEYS[15], KEYS[16]
  local DESTINATIONS, DESTINATIONS_DUE, ASIDE = KEYS[20], KEYS[21], KEYS[22]
  if call('EXISTS', COLLAPSE, ORDERING, PARKED, FANS, TARGETS, KEYS[17], KEYS[18], KEYS[19],
          DESTINATIONS, DESTINATIONS_DUE, ASIDE) > 0 then
    for _, key in ipairs({COLLAPSE, ORDERING, FANS, TARGETS, DESTINATIONS}) do call('HLEN', key) end
    for level = 1, 3 do call('LLEN', KEYS[16 + level]) end
    for _, key in ipairs({PARKED, DESTINATIONS_DUE, ASIDE}) do call('ZCARD', key) end
  end
  call('HLEN', KEYS[4])
  call('ZCARD', KEYS[13])
  call('XLEN', KEYS[9])
  call('XLEN', KEYS[14])
end

-- Returns whether a message of the lane has been tried before.
local function check_types()
  local call = redis.call
  call('HLEN', KEYS[2])
  for level = 1, 3 do call('LLEN', KEYS[4 + level]) end
  call('ZCARD', KEYS[8])
  check_special_types()
  return call('HLEN', KEYS[3]) > 0
end

local TIME = call('TIME')
local NOW_US = tonumber(TIME[1]) * 1000000 + tonumber(TIME[2])
local NOW = math.floor(NOW_US / 1000)

-- As text; %d is a third of the work, where it takes what is above 32 bits.
local WHOLE = string.format('%d', 2 ^ 40) == '1099511627776' and '%d' or '%.0f'
local function whole(number)
  return string.format(WHOLE, number)
end

-- The header of a record, or nil where the message asks for nothing special.
local function header_of(record)
  local high, low = string.byte(record, 1, 2)
  if low == 0 and high == 0 then return nil end
  return cmsgpack.unpack(string.sub(record, 3, 2 + high * 256 + low))
end

-- The last of the numbers that may be in use, where `stored` is the last that is known to be.
local NUMBERS_A_MILLISECOND = 200
local function last_number(stored)
  return math.max(tonumber(stored or 0) or 0, NOW * NUMBERS_A_MILLISECOND)
end

-- The last of them, before `total` new ones.
local function reserve_numbers(field, total)
  local last = last_number(call('HGET', CONTROL, field))
  call('HSET', CONTROL, field, whole(last + total))
  return last
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

-- A letter waits in the lane's own slot until it is carried to the key that it is for.
local function post(letter)
  call('XADD', OUTBOX, '*', 'letter', cmsgpack.pack(letter))
end

-- `ended`, of a fan-out: outcome -> how many of its targets ended so.
local function receipt(header, outcome, reason, attempts, ended)
  if header[REPLY_TO] == '' then return end
  if outcome == 'dead' or outcome == 'rejected' then
    if header[ORDERING_KEY] ~= '' then reason = reason .. '; its ordering_key goes on without it' end
  end
  post({'receipt', header[REPLY_TO], header[PUBLIC_ID] or header[ID], outcome, reason, tonumber(attempts), NOW, ended})
end

-- A member of PARKED or ASIDE: by its key, then by its age.
local function parking(key, ticket)
  return #key .. ':' .. key .. ':' .. string.format('%016.0f', tonumber(ticket))
end

-- From when on it is worth looking at a message: when it may go, or has expired before that.
local function due_at(header, at)
  return header[EXPIRES] > 0 and math.min(at, header[EXPIRES]) or at
end

-- Where a message may go next: its time, else its list.
local function admit(ticket, header, lifo)
  if header[DELIVER] > NOW then
    call('ZADD', DUE, due_at(header, header[DELIVER]), ticket)
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
    local next_ticket = whole(tonumber(string.sub(member, #prefix + 1)))
    local record = call('HGET', BODIES, next_ticket)
    if record then
      call('HSET', ORDERING, key, next_ticket)
      admit(next_ticket, header_of(record), lifo)
      return
    end
  end
end

local function forget(ticket, header, lifo)
  if header[ID] ~= '' and call('HGET', IDS, header[ID]) == ticket then
    call('HDEL', IDS, header[ID])
  end
  if header[COLLAPSE_KEY] ~= '' and call('HGET', COLLAPSE, header[COLLAPSE_KEY]) == ticket then
    call('HDEL', COLLAPSE, header[COLLAPSE_KEY])
  end
  pass_turn(ticket, header, lifo)
end

local function remember(id, window)
  if window > 0 and id ~= '' then call('ZADD', SEEN, NOW + window, id) end
end

-- Fan-outs. One message to many targets waits like any other until its turn comes; then it moves to
-- FAN_OUTS, from where workers take it, a chunk of its targets at a time, and put these back as messages
-- of their own. FANS holds for the ticket of each fan-out that has not ended
--   {left: targets that have not ended, rest: of them not yet messages, next: chunk, chunks: their
--    number, size: targets in a chunk, stop: '' or how what still waits is to end, ended: outcome ->
--    number, window: dedup (ms), header}
-- and TARGETS, under ticket:chunk, the targets that are not yet messages.
local function fan_out(ticket)
  local packed = call('HGET', FANS, ticket)
  return packed and cmsgpack.unpack(packed)
end

local function save_fan_out(ticket, fan)
  call('HSET', FANS, ticket, cmsgpack.pack(fan))
end

-- How many targets of all fan-outs are not yet messages: what an operator sees as waiting.
local function unexpanded(by)
  if by ~= 0 then call('HINCRBY', CONTROL, 'unexpanded', by) end
end

local function drop_targets(ticket, fan)
  unexpanded(-fan.rest)
  local fields = {}
  for chunk = fan.next, fan.chunks do fields[#fields + 1] = ticket .. ':' .. chunk end
  if #fields > 0 then call('HDEL', TARGETS, unpack(fields)) end
end

-- So many targets of a fan-out have ended; the last one ends it, with one receipt for all.
local function tally(ticket, fan, outcome, number, lifo)
  fan.left = fan.left - number
  fan.ended[outcome] = (fan.ended[outcome] or 0) + number
  if fan.left > 0 then return save_fan_out(ticket, fan) end
  call('HDEL', FANS, ticket)
  call('HDEL', BODIES, ticket)
  call('HDEL', TRIES, ticket)
  forget(ticket, fan.header, lifo)
  if fan.ended.delivered then remember(fan.header[ID], fan.window) end
  local whole = fan.ended[outcome] == fan.header[FAN] and outcome or 'partial'
  receipt(fan.header, whole, '', 0, fan.ended)
end

-- What is not yet a message never becomes one; what already is and still waits ends when it is met.
local function stop_fan_out(ticket, outcome, lifo)
  local fan = fan_out(ticket)
  if not fan then return 0 end
  drop_targets(ticket, fan)
  local rest = fan.rest
  fan.rest, fan.next, fan.stop = 0, fan.chunks + 1, outcome
  if rest > 0 then tally(ticket, fan, outcome, rest, lifo) else save_fan_out(ticket, fan) end
  return rest
end

-- Ends a message that has a header: forgets its id, its keys, and writes its receipt. The caller
-- removes the body. `ticket` is a string. Returns how many deliveries end with it: of a fan-out those
-- that are not yet messages of their own, else 1.
local function close(ticket, header, outcome, reason, attempts, lifo)
  local part_of = header[FAN]
  if type(part_of) == 'string' then
    local fan = fan_out(part_of)
    if fan then tally(part_of, fan, outcome, 1, lifo) end
    return 1
  elseif part_of > 0 then
    return stop_fan_out(ticket, outcome, lifo)
  end
  forget(ticket, header, lifo)
  receipt(header, outcome, reason, attempts)
  return 1
end

-- A dead letter keeps the whole message and all that is known about its end.
local function bury(ticket, record, reason, status, body, attempts)
  call('XADD', DEAD, '*', 'ticket', ticket, 'record', record, 'reason', reason,
       'status', status, 'body', body, 'attempts', attempts)
end

-- Those that may go now, as far as rate and holds allow.
local function ready()
  return call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
end

local function waiting()
  return ready() + call('ZCARD', DUE) + call('ZCARD', PARKED) + call('ZCARD', ASIDE)
end

-- Destinations, where the rate is one for each. DESTINATIONS holds for each that was used lately
--   {tokens: for each rate, at: when (µs), hold: until when it gets nothing (ms), waves: of throttling,
--    aside: messages in ASIDE, released: the newest ticket that was let go from there}
local destinations = {}

local function destination(name, rates)
  local found = destinations[name]
  if found then return found end
  local packed = call('HGET', DESTINATIONS, name)
  found = packed and cmsgpack.unpack(packed) or {at = NOW_US, hold = 0, waves = 0, aside = 0, released = 0}
  found.tokens = found.tokens or {}
  local elapsed = math.max(0, NOW_US - found.at) / 1000000
  for index, rate in ipairs(rates) do
    found.tokens[index] = math.min(rate[3], (found.tokens[index] or rate[3]) + elapsed * rate[2])
  end
  found.at = NOW_US
  destinations[name] = found
  return found
end

-- Milliseconds until a destination has `number` tokens of every rate, as far as its buckets go.
local function until_tokens_of(found, rates, number)
  local wait = 0
  for index, rate in ipairs(rates) do
    wait = math.max(wait, (math.min(number, rate[3]) - found.tokens[index]) / rate[2] * 1000)
  end
  return math.max(0, math.ceil(wait))
end

local function set_aside(name, found, ticket)
  if call('ZADD', ASIDE, 0, parking(name, ticket)) == 1 then found.aside = found.aside + 1 end
end

-- When to look at a destination again: to let something go, or to forget it.
local function save_destinations(rates)
  for name, found in pairs(destinations) do
    local full = until_tokens_of(found, rates, math.huge)
    local wait = found.aside > 0 and until_tokens_of(found, rates, 1) or full
    local at = math.max(NOW + math.max(1, wait), found.hold)
    if found.aside == 0 and full == 0 and found.hold <= NOW then
      call('HDEL', DESTINATIONS, name)
      call('ZREM', DESTINATIONS_DUE, name)
    else
      call('HSET', DESTINATIONS, name, cmsgpack.pack(found))
      call('ZADD', DESTINATIONS_DUE, at, name)
    end
  end
end
