-- Applies the outcomes of many messages.
--
-- KEYS   1..22 the lane, 23 the in-flight hash of the settling worker
-- ARGV   1 policy (MessagePack map): lifo, dedup (ms), failures (0: no breaker), cooldown (ms),
--          share (0: none), window (ms), adaptive, each ([[name, per second, burst], …])
--        2 outcomes (MessagePack array of arrays): [ticket, claim, kind, …]
--          'd'  delivered; then attempts
--          'p'  delivered, and a plain one: its record has no header
--          'r'  retry; then delay (ms), tries, reason
--          'w'  waits: our own process could not send it; then delay (ms), tries
--          'b'  back to the head, no attempt spent; then tries
--          'x'  dead letter; then reason, status, which ARGV is the body, attempts, whether the provider answered (0/1)
--          'u'  unregistered; then reason, target, since, id, attempts
--          'e'  expired; then attempts
--          'h'  its destination asks to wait; then how long (ms; 0: the destination's own, growing
--               wait), tries
--        3 hold: '' or 'throttled' or 'unauthorised'
--        4 how long to hold (ms); for 'throttled', 0 lets the lane double its own wait
--        5 why it holds, for people
--        6.. bodies of providers' answers, for dead letters
-- reply  {settled, stale, state, hold (ms from now), letters in the outbox, tickets that are ready, why it holds}
--
-- Atomic because a message must be in exactly one place, and a receipt must exist if and only if the
-- message ended. Acts only on what this worker still holds under the same claim; but a success is
-- final whoever reports it.

local MOST_SEEN, FIRST_WAIT, LONGEST_WAIT, FORGOTTEN = 1000000, 1000, 60000, 600000

local policy = cmsgpack.unpack(ARGV[1])
local outcomes = cmsgpack.unpack(ARGV[2])
local lifo = policy.lifo

local tickets = {}
for index, entry in ipairs(outcomes) do tickets[index] = entry[1] end
local claims = #tickets > 0 and call('HMGET', INFLIGHT, unpack(tickets)) or {}

-- Redis's Lua looks at every byte of a record: so only where it may be gone, or says something.
local wanted, place = {}, {}
for index, entry in ipairs(outcomes) do
  if entry[3] ~= 'p' or claims[index] ~= entry[2] then
    wanted[#wanted + 1] = entry[1]
    place[index] = #wanted
  end
end
local records = #wanted > 0 and call('HMGET', BODIES, unpack(wanted)) or {}

-- See lane.lua: before anything moves. A batch of plain successes first writes BODIES, and leaves what is read
-- here as it is.
local all_plain = #wanted == 0
local some_tried, letters, may_go
if all_plain then
  some_tried, letters, may_go = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX), ready()
else
  some_tried = check_types()
end

local settled, stale, delivered, failed, expired, unregistered, retried = 0, 0, 0, 0, 0, 0, 0
local answered, last = 0, ''
local released, ended, back = {}, {}, {}
local failures, window, state, hold, asked, throttles =
    unpack(call('HMGET', CONTROL, 'failures', 'window', 'state', 'hold', 'asked', 'throttles'))
failures, window = tonumber(failures or 0), window and tonumber(window)
local failures_before, broken, throttled = failures, 0, 0

-- A destination asked to be left alone: what goes there waits, and nothing else does.
local function hold_destination(name, wait, ticket)
  local found = destination(name, policy.each)
  if found.hold <= NOW then
    -- The answers of one wave arrive together; a wave long ago counts no more.
    found.waves = NOW - found.hold > FORGOTTEN and 1 or found.waves + 1
    if wait == 0 then wait = math.min(LONGEST_WAIT, FIRST_WAIT * 2 ^ math.min(found.waves - 1, 16)) end
  end
  found.hold = math.max(found.hold, NOW + wait)
  found.released = math.max(found.released, tonumber(ticket))
  set_aside(name, found, ticket)
end

for index, entry in ipairs(outcomes) do
  local ticket, kind = entry[1], entry[3]
  local held, plain = claims[index] == entry[2], not place[index]
  local record = plain or records[place[index]]
  if kind == 'p' then kind = 'd' end
  if held then
    settled = settled + 1
    released[#released + 1] = ticket
  else
    stale = stale + 1
  end
  if record and (held or kind == 'd') then
    local header = not plain and header_of(record)
    if kind == 'd' then
      delivered, answered, failures = delivered + 1, answered + 1, 0
      ended[#ended + 1] = ticket
      if not held then call('ZREM', DUE, ticket) end
      if header then
        remember(header[ID], policy.dedup)
        close(ticket, header, 'delivered', '', entry[4], lifo)
      end
    elseif kind == 'r' or kind == 'w' then
      if kind == 'r' then
        retried, failures, broken = retried + 1, failures + 1, broken + 1
        last = ': ' .. entry[6]
      end
      -- A message that would come too late comes at its end, to be passed over.
      call('ZADD', DUE, header and due_at(header, NOW + entry[4]) or NOW + entry[4], ticket)
      call('HSET', TRIES, ticket, entry[5])
    elseif kind == 'h' then
      throttled = throttled + 1
      hold_destination(header[DEST], entry[4], ticket)
      call('HSET', TRIES, ticket, entry[5])
    elseif kind == 'b' then
      back[#back + 1] = ticket
      call('HSET', TRIES, ticket, entry[4])
    elseif kind == 'x' then
      failed = failed + 1
      ended[#ended + 1] = ticket
      if entry[8] == 1 then
        answered, failures = answered + 1, 0
      else
        failures, broken = failures + 1, broken + 1
        last = ': ' .. entry[4]
      end
      bury(ticket, record, entry[4], entry[5], ARGV[entry[6]], entry[7])
      local outcome = entry[8] == 1 and 'rejected' or 'dead'
      if header then close(ticket, header, outcome, entry[4], entry[7], lifo) end
    elseif kind == 'u' then
      unregistered, answered, failures = unregistered + 1, answered + 1, 0
      ended[#ended + 1] = ticket
      post({'feedback', entry[5], entry[4], entry[6], entry[7]})
      if header then close(ticket, header, 'unregistered', entry[4], entry[8], lifo) end
    elseif kind == 'e' then
      expired = expired + 1
      ended[#ended + 1] = ticket
      if header then close(ticket, header, 'expired', 'its time to live was over', entry[4], lifo) end
    end
    -- A message that waits again can be collapsed again, unless a newer one took the key.
    if header and header[COLLAPSE_KEY] ~= '' and (kind == 'r' or kind == 'w' or kind == 'b' or kind == 'h') then
      call('HSETNX', COLLAPSE, header[COLLAPSE_KEY], ticket)
    end
  end
end

if #ended > 0 then
  call('HDEL', BODIES, unpack(ended))
  if some_tried then call('HDEL', TRIES, unpack(ended)) end
end
if #released > 0 then call('HDEL', INFLIGHT, unpack(released)) end
-- The oldest first in front, whatever the order in which they came back.
table.sort(back, function(a, b) return tonumber(a) > tonumber(b) end)
for _, ticket in ipairs(back) do to_head(ticket, lifo) end

count('delivered', delivered)
count('retried', retried)
count('failed', failed)
count('expired', expired)
count('unregistered', unregistered)
count('throttled', throttled)
if throttled > 0 then save_destinations(policy.each) end
if policy.dedup > 0 and delivered > 0 and not all_plain then
  call('ZREMRANGEBYSCORE', SEEN, '-inf', NOW)
  call('ZREMRANGEBYRANK', SEEN, 0, -MOST_SEEN - 1)
end

-- The state of the lane, one for the whole fleet.
hold = tonumber(hold or 0)
asked = tonumber(asked or 0) -- until when the provider wants to be left alone, whatever else holds

local function enter(name, until_ms, why)
  if state ~= name then call('HSET', CONTROL, 'since', NOW) end
  state, hold = name, math.max(until_ms, asked, NOW)
  call('HSET', CONTROL, 'state', name, 'hold', hold, 'why', why)
end

if answered > 0 then
  if state == 'open' or state == 'unauthorised' then
    call('HDEL', CONTROL, 'state', 'hold', 'why', 'since', 'warm_since',
         'window', 'window_failed', 'window_answered')
    window = nil
    state, hold = false, 0
    if asked > NOW then enter('throttled', asked, 'the provider asked to wait') end
  end
  if ARGV[3] == '' and throttles then call('HDEL', CONTROL, 'throttles') end
end

if ARGV[3] == 'unauthorised' then
  enter('unauthorised', NOW + tonumber(ARGV[4]), ARGV[5])
elseif ARGV[3] == 'throttled' then
  -- The answers of one wave arrive together: only the first of them counts as one more.
  local fresh = not (state == 'throttled' and hold > NOW)
  local wait = tonumber(ARGV[4])
  if wait == 0 then
    local waves = fresh and call('HINCRBY', CONTROL, 'throttles', 1)
        or tonumber(call('HGET', CONTROL, 'throttles') or 1)
    wait = fresh and math.min(LONGEST_WAIT, FIRST_WAIT * 2 ^ math.min(waves - 1, 16)) or 0
  end
  if fresh and policy.adaptive then
    local factor, at = unpack(call('HMGET', CONTROL, 'factor', 'factor_at'))
    local now_at = factor and math.min(1, tonumber(factor) + (NOW - tonumber(at)) / 20000) or 1
    call('HSET', CONTROL, 'factor', string.format('%.6f', math.max(0.02, now_at / 2)), 'factor_at', NOW)
  end
  asked = math.max(asked, NOW + wait)
  call('HSET', CONTROL, 'asked', asked)
  if state == 'unauthorised' or state == 'open' then
    enter(state, math.max(hold, NOW + wait), ARGV[5])
  else
    enter('throttled', math.max(hold, NOW + wait), ARGV[5])
  end
  count('throttled', 1)
end

if failures ~= failures_before then
  call('HSET', CONTROL, 'failures', failures)
end

-- The share of failures is counted from a first one on: a lane that has none pays nothing.
if policy.share > 0 and (broken > 0 or window) then
  local failed_in, answered_in = broken, answered
  if window and window <= NOW and NOW - window <= policy.window then
    failed_in = call('HINCRBY', CONTROL, 'window_failed', broken)
    answered_in = call('HINCRBY', CONTROL, 'window_answered', answered)
  elseif broken > 0 then
    call('HSET', CONTROL, 'window', NOW, 'window_failed', broken, 'window_answered', answered)
  else
    call('HDEL', CONTROL, 'window', 'window_failed', 'window_answered')
    failed_in = 0
  end
  local all = failed_in + answered_in
  if state == 'open' and broken > 0 then
    enter('open', NOW + policy.cooldown, 'the probe failed' .. last)
  end
  if all >= 2 * policy.failures and failed_in >= policy.share * all and broken > 0
     and state ~= 'unauthorised' and state ~= 'open' then
    enter('open', NOW + policy.cooldown, failed_in .. ' of ' .. all .. ' deliveries failed' .. last)
  end
end
if policy.failures > 0 and failures >= policy.failures and failures > failures_before and state ~= 'unauthorised' then
  enter('open', NOW + policy.cooldown, failures .. ' failures in a row' .. last)
end

if not all_plain then letters, may_go = call('XLEN', OUTBOX), ready() end
local why = state and call('HGET', CONTROL, 'why') or ''
return {settled, stale, state or '', math.max(0, hold - NOW), letters, may_go, why}
