-- Admission: hands out as many messages as there are tokens and free slots, or says how long to wait.
--
-- @key INFLIGHT  hash of the claiming worker: ticket -> fencing token, and its group if it came from one
-- ARGV   1 messages wanted (free slots)
--        2 policy (MessagePack map): lifo, rates ([[name, per second, burst], …]), warmup (ms),
--          adaptive, probe (ms until a probe that is never settled may be repeated),
--          shares ([normal, low]: the least share of a batch, 0..1, under a standing backlog),
--          groups (false, or the rules of group_states.lua), journal (see parts/journal.lua)
--        3 how many of the worker's slots groups share (see turns.lua); 0: all
--        4 1 if the options have neither rates, also of groups, nor a warm-up, and the order is first in, first out; else 0
--        5 messages of a group that may be in flight; 0: any number
-- reply  {reason, wait, fencing token, fan-outs, passed over, held, ticket, record, tries, …}, and at the end of one
--        that hands out messages the lowest rate of an operator's override (messages per second) if there is one
--        reason       'ok', or why it handed out less than was wanted: 'empty', 'rate',
--                     'paused', 'throttled', 'open', 'trial', 'unauthorised', 'unregistered', 'faulty'
--                     'full': as 'empty', but groups have more messages than their concurrency allows, so the next
--                     settle lets more of them go
--                     'groups': nothing, because the lane has groups that its options do not know: the other
--                     form of this script serves them (see script_text.py)
--        wait         microseconds until it is worth claiming again; -1: until something new arrives
--        fencing token  of all messages that are handed out here
--        fan-outs     {ticket, record, first, targets, …}: messages of which the worker is to make one for
--                     each target of this chunk (a JSON array); `first` is the index of its first one. They
--                     cost no tokens.
--        passed over  how many had expired, been taken back, or turned out to be unregistered
--        held         how many this worker has in flight, as far as it is known here
--        tries        'attempts:deliveries:crashes:alone', ':again' (see blame.lua) if not 0; '' for a first try
--
-- Atomic because tokens, hand-out and lease are one step: no two workers share a token or a message,
-- and no message is out without being on its worker's list.

local WANTED = 1 -- arguments
local SHARED = 3
local PLAIN = 4
local CONCURRENCY = 5

local MOST_PROMOTED = 200
local MOST_SCANNED = 300
local MOST_LOOKED_AT = 500 -- messages at the head of a list, for those that were throttled
local PACE_MS = 50
local SLOWEST = 0.1 -- of the rate, at the start of a warm-up
local SLOW = 100 -- messages a second
local EPSILON = 0.000001 -- of a token
local FIXED_FIELDS = 12
local SLOT_POLL = 20000 -- microseconds until groups that left slots free for others may have them
local TRIAL_POLL = 250000 -- microseconds until another worker's probe has decided, most likely

-- @include only_group
-- @include clock
-- @include large
-- @include numbers
-- @include only_target
-- @if groups
-- @include set_fields
-- @include claim_plain_groups
-- @else
-- @include claim_plain
-- @end
-- @include lane
-- @include adaptive
-- @include ready

local wanted = tonumber(ARGV[WANTED])
local policy = cmsgpack.unpack(ARGV[2])
local lifo = policy.lifo

local fields = {'paused', 'state', 'hold', 'active', 'warm_since', 'factor', 'factor_at', 'claimed', 'fencing_token', 'doubts',
                'grouped', 'override'}
for index, rate in ipairs(policy.rates) do fields[FIXED_FIELDS + index] = 'bucket:' .. rate[1] end
local control = call('HMGET', CONTROL, unpack(fields))
local paused, state, hold, active, warm_since, factor_saved, factor_at, claimed, fencing_token, doubts, grouped, override =
    unpack(control, 1, FIXED_FIELDS)
-- @if no groups
if grouped then return {'groups', 0, 0, {}, 0} end
-- @end

-- Every key that a message without a header goes through is read before anything is moved (see parts/types.lua),
-- except the records: if they cannot be read, popped tickets go back.
local lists = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
local held = call('HLEN', INFLIGHT)
-- @if groups
local some_fan_out, some_group = false, policy.groups
if call('EXISTS', FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3], ROTATION[1], ROTATION[2], ROTATION[3], GROUPS_DUE) > 0 then
  some_fan_out = call('EXISTS', FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0
  -- A lane may have groups left from earlier.
  some_group = some_group or call('EXISTS', ROTATION[1], ROTATION[2], ROTATION[3], GROUPS_DUE) > 0
end
if grouped and not some_group
   and call('EXISTS', WAITING[1], WAITING[2], WAITING[3], GROUPS_IN_FLIGHT) == 0 then
  call('HDEL', CONTROL, 'grouped')
end
-- @else
local some_fan_out = call('EXISTS', FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0
-- @end

-- @include special
local special

local checked = false
if some_fan_out then
  special = load_special(call, NOW, NOW_US, policy)
  special.check_types()
  checked = true
end

local turns
local more_groups_are_due = false
-- @if groups
-- @include turns
turns = some_group and load_turns(call, NOW, NOW_US, policy, lifo, {shared = tonumber(ARGV[SHARED]), wanted = wanted, held = held})
if turns then
  checked = true
  more_groups_are_due = turns.admit()
end
-- @end
local lengths
local function count_waiting()
  lists = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
  lengths = lists
  -- @if groups
  if turns then
    lengths = {lists[1] + turns.count(1), lists[2] + turns.count(2), lists[3] + turns.count(3)}
  end
  -- @end
end
if turns then count_waiting() else lengths = lists end

-- Time: messages that are due go to the head, the earliest first.
local function first_in(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end
local first_due = first_in(DUE)
local due_is_known = true
if first_due and first_due <= NOW then
  local due = call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, MOST_PROMOTED)
  call('ZREM', DUE, unpack(due))
  -- @if groups
  if turns then due = turns.promote(due) end
  -- @end
  for index = #due, 1, -1 do to_head(due[index], lifo) end
  count_waiting()
  due_is_known = false
end

if paused then
  local ends = tonumber(call('HGET', CONTROL, 'paused_until') or 0)
  if ends == 0 or ends > NOW then return {'paused', ends == 0 and -1 or (ends - NOW) * 1000, 0, {}, 0} end
  -- @include note_hold
  note_pause(ends)
  call('HDEL', CONTROL, 'paused', 'paused_until', 'paused_at', 'paused_by', 'paused_reason')
end

-- @include second_tries
local doubt, reported = nil, 0
if doubts then
  if not checked then
    special = special or load_special(call, NOW, NOW_US, policy)
    special.check_types()
    checked = true
  end
  doubt = load_doubt(call, NOW)
  reported = doubt.report()
end

local probing, opens_in = false, math.huge
if state then
  hold = tonumber(hold or 0)
  local wait = (hold - NOW) * 1000
  local lone = doubt and doubt.lone
  if wait > 0 and turns and state == 'open' and tonumber(call('HGET', CONTROL, 'retry_after_until') or 0) <= NOW then
    -- Most groups fail, but that says nothing about one that has not been tried: its first message goes out.
    opens_in = wait
    turns.only_fresh = true
    lists, some_fan_out = {0, 0, 0}, false
    lengths = {turns.count(1), turns.count(2), turns.count(3)}
  elseif wait > 0 and not (lone and (lengths[1] + lengths[2] + lengths[3] > 0 or some_fan_out)) then
    if state == 'trial' then wait = math.min(wait, TRIAL_POLL) end
    return {lone and 'empty' or state, wait, 0, {}, reported}
  else
    -- The provider may mean only the messages that it throttled, so others are tried first.
    local throttled = call('HGET', CONTROL, 'throttled_tickets')
    if throttled then
      call('HDEL', CONTROL, 'throttled_tickets')
      local is_throttled = {}
      for _, ticket in ipairs(cmsgpack.unpack(throttled)) do is_throttled[ticket] = true end
      for level = 1, 3 do
        local first = call(lifo and 'RPOP' or 'LPOP', READY[level], MOST_LOOKED_AT) or {}
        for index = #first, 1, -1 do
          if not is_throttled[first[index]] then call(lifo and 'RPUSH' or 'LPUSH', READY[level], first[index]) end
        end
        for _, ticket in ipairs(first) do
          if is_throttled[ticket] then call(lifo and 'LPUSH' or 'RPUSH', READY[level], ticket) end
        end
      end
    end
    if state == 'throttled' then
      -- @include note_hold
      note_state(hold)
      call('HDEL', CONTROL, 'state', 'hold', 'reason', 'retry_after_until')
    else
      probing, wanted = true, 1
    end
  end
end

if doubt and lengths[1] + lengths[2] + lengths[3] == 0 and not some_fan_out then
  doubt.waits = not doubt.retry() and state
  count_waiting()
end

-- @include lane_buckets

-- When the next message or group is due, or the lane lets a probe through, in Unix milliseconds; nil if none is.
local function next_due()
  local at = first_due
  if not due_is_known then at = first_in(DUE) end
  local of_group
  -- @if groups
  of_group = turns and first_in(GROUPS_DUE)
  -- @end
  local report_at = doubt and (doubt.report_at > NOW and doubt.report_at or doubt.waits and NOW + TRIAL_POLL / 1000)
  at = math.min(at or math.huge, of_group or math.huge, report_at or math.huge, NOW + opens_in / 1000,
                special and special.next_at or math.huge)
  return at < math.huge and at or nil
end

local empty = lengths[1] + lengths[2] + lengths[3] == 0 and not some_fan_out
if allowed < 1 then
  save_buckets(0)
  if not empty then return {'rate', wait_for_tokens(), 0, {}, reported} end
  local at = next_due()
  return {'empty', at and math.max(until_tokens(), (at - NOW) * 1000) or -1, 0, {}, reported}
end

if empty then
  save_buckets(0)
  local at = next_due()
  return {'empty', at and math.max(1, at - NOW) * 1000 or -1, 0, {}, reported, held}
end

-- Priority: high before normal before low, but each gets its share of a standing backlog.
claimed = tonumber(claimed or 0)
local function reserve(level, share, phase, most)
  local quota = math.floor((claimed + allowed) * share + phase) - math.floor(claimed * share + phase)
  return math.min(quota, lengths[level], most)
end
local limits = {0, reserve(2, policy.shares[1], 0, allowed), 0}
-- In a phase of its own, so that claims of one message do not find both shares due at once.
limits[3] = reserve(3, policy.shares[2], 0.25, allowed - limits[2])
local unreserved = allowed - limits[2] - limits[3]
for level = 1, 3 do
  local more = math.min(unreserved, lengths[level] - limits[level])
  limits[level], unreserved = limits[level] + more, unreserved - more
end

local some_tried = call('HLEN', TRIES) > 0
local token = whole(last_number(fencing_token) + 1)
local reply, leases = {'ok', 0, tonumber(token), {}, 0, held}, {}
local given, total, scanned, passed_over = {0, 0, 0}, 0, 0, 0

-- @include hand_out
-- @if groups
-- @include hand_out_groups
-- @end

local exhausted = {}
for level = 1, 3 do exhausted[level] = lengths[level] == 0 or take(level, limits[level]) end
for level = 1, 3 do
  if total < allowed and not exhausted[level] then exhausted[level] = take(level, allowed - total) end
end

if some_fan_out then
  local fan_outs = reply[4]
  for _, chunk in ipairs(special.fan_outs(given, exhausted)) do
    leases[#leases + 1], leases[#leases + 2] = chunk[1], token
    for _, value in ipairs(chunk) do fan_outs[#fan_outs + 1] = value end
  end
  due_is_known = false
end

if #leases > 0 then
  if total < FEW then
    reply[6] = held + call('HSET', INFLIGHT, unpack(leases))
  else
    reply[6] = held + call('HSET', INFLIGHT, LONG_FIELD, '', unpack(leases)) - 1
    call('HDEL', INFLIGHT, LONG_FIELD)
  end
  call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole(claimed + total))
  if total > 0 and policy.warmup > 0 then call('HSET', CONTROL, 'active', NOW) end
end
save_buckets(total)
-- @if groups
if turns then turns.save() end
-- @end
if probing and total > 0 then call('HSET', CONTROL, 'hold', NOW + policy.probe) end

reply[5] = passed_over + reported
local some_passed = turns and turns.some_passed
if total < allowed and (scanned >= MOST_SCANNED and not some_passed or passed_over > 0 or more_groups_are_due) then
  -- There may be more: behind the scanned ones, or released by those that expired.
  reply[1], reply[2] = 'ok', 0
elseif probing and total > 0 then
  reply[1], reply[2] = state, state == 'trial' and TRIAL_POLL or policy.probe * 1000
elseif total < allowed then
  local at = next_due()
  local wait = at and math.max(1, at - NOW) * 1000 or -1
  if some_passed and turns.shares_more(total) then wait = wait < 0 and SLOT_POLL or math.min(wait, SLOT_POLL) end
  reply[1], reply[2] = turns and turns.some_full and 'full' or 'empty', wait
elseif total < wanted then
  reply[1], reply[2] = 'rate', wait_for_tokens()
end
if slowest then reply[#reply + 1] = string.format('%.17g', slowest) end
return reply
