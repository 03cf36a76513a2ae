-- Applies the outcomes of many messages.
--
-- @key INFLIGHT  hash of the settling worker: ticket -> fencing token, and its group if it came from one
-- ARGV   1 policy (MessagePack map): lifo, dedup (ms), failures (0: no breaker), cooldown (ms),
--          share (0: none), window (ms), gone_share (of targets that are gone, which holds the lane; 0: none), adaptive,
--          groups (false, or the rules of group_states.lua), journal (see parts/journal.lua)
--        2 outcomes (MessagePack array of arrays): [ticket, fencing token, kind, …], see parts/outcome_fields.lua
--        3 hold: '' or 'throttled'
--        4 how long to hold (ms); 0 lets the lane double its own wait
--        5 why it holds, for people
--        6.. bodies of providers' answers, for dead letters
-- reply  'groups': nothing is settled, because messages came from groups that the options do not know: the other form of
--        this script settles them (see script_text.py). Otherwise {settled, stale, state, hold (ms from now), letters in
--        the outbox, tickets that are ready, why it holds, groups whose state has changed (see group_verdicts.lua), if
--        the lane has groups}
--
-- Atomic because a message must be in exactly one place, and a receipt must exist if and only if the
-- message ended. Acts only on messages that this worker still holds under the same fencing token; but a success is
-- final whichever worker reports it.

local MOST_THROTTLED = 200 -- messages that go behind others when the hold is over

-- @include outcome_fields
-- @include only_group
-- @include lane
-- @include count
-- @include ready_count

local policy = cmsgpack.unpack(ARGV[1])
local outcomes = cmsgpack.unpack(ARGV[2])
local asked_state = ARGV[3]

local tickets = {}
for index = 1, #outcomes do tickets[index] = outcomes[index][TICKET] end
local tokens = #tickets > 0 and call('HMGET', INFLIGHT, unpack(tickets)) or {}

-- Redis's Lua looks at every byte of a record, so only those are read that may be gone or whose header counts.
local wanted, place, some_target = {}, {}, false
-- @if groups
-- The group of each message that is still this worker's, if it has one.
local group_of, some_group = {}, false
local find, sub = string.find, string.sub
local prefix_of, prefix = false, '' -- of leases with a group, for the last token
-- @end
for index = 1, #outcomes do
  local entry = outcomes[index]
  local lease, token = tokens[index], entry[FENCING_TOKEN]
  -- @if no groups
  if lease ~= token and lease and string.sub(lease, 1, #token + 1) == token .. ' ' then return 'groups' end
  -- @else
  if lease ~= token and lease then
    if token ~= prefix_of then prefix_of, prefix = token, token .. ' ' end
    if find(lease, prefix, 1, true) == 1 then
      tokens[index], group_of[index], some_group = token, sub(lease, #prefix + 1), true
      lease = token
    end
  end
  -- @end
  local kind = entry[KIND]
  if kind == DELIVERED_TARGET then some_target = true end
  if kind ~= DELIVERED_PLAIN and kind ~= DELIVERED_TARGET or lease ~= token then
    -- @if no groups
    if kind == GROUP_HELD then return 'groups' end
    -- @end
    wanted[#wanted + 1] = entry[TICKET]
    place[index] = #wanted
  end
end

local failures, window, state, hold, retry_after_until, throttles, doubts, groups_window, groups_throttled =
    unpack(call('HMGET', CONTROL, 'failures', 'window', 'state', 'hold', 'retry_after_until', 'throttles', 'doubts',
                'groups_window', 'groups_throttled'))

-- @if groups
-- The changes by a group's messages to its state: freed, answered, delivered, broken (failed without an answer), row
-- (failures since its last answer), reason, and if it is throttled wait (ms) and tickets.
local by_group = {}
local function of_group(name)
  local sums = by_group[name]
  if not sums then
    sums = {freed = 0, answered = 0, delivered = 0, broken = 0, row = 0}
    by_group[name] = sums
  end
  return sums
end

-- Returns how the lane stands by its groups: see group_verdicts.lua.
local function settle_groups()
  -- @include group_verdicts
  return judge_groups(by_group, groups_window, groups_throttled)
end
-- @end

-- @include settle_successes

-- @include check_types
-- @include records
-- @include due_at
-- @include remember
-- @include close
-- @include ended_targets
-- @include dead
-- @include set_fields
-- @include add_members
-- @include whole

local lifo = policy.lifo
local records = #wanted > 0 and call('HMGET', BODIES, unpack(wanted)) or {}

local settled, stale, delivered, failed, expired, unregistered, retried = 0, 0, 0, 0, 0, 0, 0
local released, ended, back, throttled, throttled_tickets = {}, {}, {}, 0, {}
-- The changes of this call to the state of the lane.
local seen = {answered = 0, broken = 0, failures = tonumber(failures or 0), last_reason = ''}

local group -- the change by the present message to the state of its group, if it has one

local function saw_answer()
  seen.answered, seen.failures = seen.answered + 1, 0
  if group then group.answered, group.row = group.answered + 1, 0 end
end

-- A failure of a group counts for its lane only if most groups fail.
local function saw_failure(reason)
  if group then
    group.broken, group.row, group.reason = group.broken + 1, group.row + 1, reason
    return
  end
  seen.broken, seen.failures, seen.last_reason = seen.broken + 1, seen.failures + 1, ': ' .. reason
end

-- `status` and `provider_id` are from the provider's answer, for the receipt.
local function finish(ticket, header, outcome, reason, attempts, status, provider_id)
  ended[#ended + 1] = ticket
  if header and header.part_of then return end_targets(header.part_of, outcome, 1) end
  if header then close(ticket, header, outcome, reason, attempts, lifo, status, provider_id) end
end

local delayed, tries_of = {}, {} -- score, ticket, … and ticket, tries, …: written at the end

-- The message waits again: it can be collapsed again, unless a newer one took the key.
local function wait_again(ticket, header, tries)
  local length = #tries_of
  tries_of[length + 1], tries_of[length + 2] = ticket, tries
  if header and header.collapse_key then call('HSETNX', COLLAPSE, header.collapse_key, ticket) end
end

-- A message that would come too late comes at its end, for a claim to pass over.
local function wait_until(at, ticket, header, tries)
  local length = #delayed
  delayed[length + 1], delayed[length + 2] = whole(header and due_at(header, at) or at), ticket
  wait_again(ticket, header, tries)
end

-- @include refusals
if doubts then load_blame() end

for index, entry in ipairs(outcomes) do
  local ticket, kind = entry[TICKET], entry[KIND]
  local held, plain = tokens[index] == entry[FENCING_TOKEN], not place[index]
  local record = plain or records[place[index]]
  if kind == DELIVERED_PLAIN or kind == DELIVERED_TARGET then kind = DELIVERED end
  -- @if groups
  group = group_of[index] and of_group(group_of[index])
  if group then group.freed = group.freed + 1 end
  -- @end
  if held then
    settled = settled + 1
    released[#released + 1] = ticket
  else
    stale = stale + 1
  end
  if record and (held or kind == DELIVERED) then
    local header
    -- @if groups
    local names_only_group = kind == RETRY and not plain and sub(record, 3, 9) == ONLY_GROUP
    header = not (plain or names_only_group) and header_of(record)
    -- @else
    header = not plain and header_of(record)
    -- @end
    if doubt and tonumber(entry[FENCING_TOKEN]) > doubt.trial then doubt.probed = true end
    if kind == DELIVERED then
      delivered = delivered + 1
      saw_answer()
      if group then group.delivered = group.delivered + 1 end
      if doubt then blame.accept(doubt, tonumber(entry[FENCING_TOKEN]), ticket, policy.gone_share, lifo) end
      if not held then call('ZREM', DUE, ticket) end
      if header then remember(header.id, policy.dedup) end
      if plain and entry[KIND] == DELIVERED_TARGET then
        deliver_unread(entry[TARGET_PART_OF], ticket)
      elseif entry[KIND] == DELIVERED_TARGET then
        finish(ticket, header, 'delivered', '', 0)
      else
        finish(ticket, header, 'delivered', '', entry[DELIVERED_ATTEMPTS], entry[DELIVERED_STATUS], entry[DELIVERED_PROVIDER_ID])
      end
    elseif kind == RETRY then
      retried = retried + 1
      saw_failure(entry[RETRY_REASON])
      wait_until(NOW + entry[RETRY_DELAY], ticket, header, entry[RETRY_TRIES])
    elseif kind == POSTPONED then
      wait_until(NOW + entry[POSTPONED_DELAY], ticket, header, entry[POSTPONED_TRIES])
    -- @if groups
    elseif kind == GROUP_HELD then
      throttled = throttled + 1
      group = group or of_group(header.group)
      group.wait = math.max(group.wait or 0, entry[GROUP_WAIT])
      group.reason = entry[GROUP_REASON]
      group.tickets = group.tickets or {}
      table.insert(group.tickets, ticket)
      back[#back + 1] = {ticket, header}
      wait_again(ticket, header, entry[GROUP_TRIES])
    -- @end
    elseif kind == RELEASED then
      back[#back + 1] = {ticket, header}
      wait_again(ticket, header, entry[RELEASED_TRIES])
    elseif kind == LANE_HELD then
      back[#back + 1] = {ticket, header}
      wait_again(ticket, header, entry[LANE_TRIES])
      if not (header and header.group) then throttled_tickets[#throttled_tickets + 1] = ticket end
    elseif kind == DEAD_LETTER then
      failed = failed + 1
      local reason, attempts, answered = entry[DEAD_REASON], entry[DEAD_ATTEMPTS], entry[DEAD_ANSWERED] == 1
      if answered then saw_answer() else saw_failure(reason) end
      add_dead_letter(ticket, record, reason, entry[DEAD_STATUS], ARGV[entry[DEAD_BODY]], attempts,
                      entry[DEAD_HISTORY])
      finish(ticket, header, answered and 'rejected' or 'dead', reason, attempts, entry[DEAD_STATUS])
    elseif kind == REFUSED then
      if not blame then load_blame() end
      blame.refuse(entry, ticket)
    elseif kind == UNREGISTERED and policy.gone_share > 0 and entry[UNREGISTERED_AGAIN] == 0 then
      saw_answer()
      if not blame then load_blame() end
      blame.miss(entry, ticket)
    elseif kind == UNREGISTERED then
      unregistered = unregistered + 1
      saw_answer()
      local reason = entry[UNREGISTERED_REASON]
      post({'feedback', entry[UNREGISTERED_TARGET], reason, entry[UNREGISTERED_SINCE], entry[UNREGISTERED_ID]})
      finish(ticket, header, 'unregistered', reason, entry[UNREGISTERED_ATTEMPTS], entry[UNREGISTERED_STATUS])
    elseif kind == EXPIRED then
      expired = expired + 1
      finish(ticket, header, 'expired', 'its time to live was over', entry[EXPIRED_ATTEMPTS])
    end
  end
end

set_fields(TRIES, tries_of)
add_members(DUE, delayed)
if #ended > 0 then
  -- A plain message whose body is gone was already counted, for a worker that had it before.
  delivered = delivered - (#ended - call('HDEL', BODIES, unpack(ended)))
  if some_tried then call('HDEL', TRIES, unpack(ended)) end
end
if #ended_fan_outs > 0 then delivered = delivered - save_ended_targets(lifo) end
if #released > 0 then call('HDEL', INFLIGHT, unpack(released)) end
if #back > 0 then
  -- The oldest first in front, whatever the order in which they came back.
  table.sort(back, function(a, b) return tonumber(a[1]) > tonumber(b[1]) end)
  -- @include all_to_head
  all_to_head(back, lifo)
end
if #throttled_tickets > 0 then
  local known = call('HGET', CONTROL, 'throttled_tickets')
  known = known and cmsgpack.unpack(known) or {}
  for index = 1, math.min(#throttled_tickets, MOST_THROTTLED - #known) do known[#known + 1] = throttled_tickets[index] end
  call('HSET', CONTROL, 'throttled_tickets', cmsgpack.pack(known))
end
local lane_by_groups, changes_of_groups, upstream_hold
-- @if groups
if next(by_group) then lane_by_groups, changes_of_groups, upstream_hold = settle_groups() end
if upstream_hold then throttled = throttled - 1 end -- update_state counts one of them
-- @end

count('delivered', delivered)
count('retried', retried)
count('failed', failed)
count('expired', expired)
count('unregistered', unregistered)
count('throttled', throttled)
if policy.dedup > 0 and delivered > 0 and (#wanted > 0 or #ended_fan_outs > 0) then
  -- @include trim_seen
end

local held_for, reason = 0, ''
if asked_state ~= '' or doubt or state or window or throttles or seen.broken > 0 or seen.failures ~= tonumber(failures or 0)
   or lane_by_groups or upstream_hold then
  -- @include breaker
  local found = {
    failures = tonumber(failures or 0), window = window and tonumber(window), state = state,
    hold = tonumber(hold or 0), throttles = throttles,
    -- Until when the provider wants no requests, whatever else holds the lane.
    retry_after_until = tonumber(retry_after_until or 0),
  }
  seen.groups = lane_by_groups
  local until_ms
  local asked = {state = asked_state, wait = tonumber(ARGV[4]), reason = ARGV[5]}
  if upstream_hold then
    asked = {state = 'throttled', wait = math.max(asked.wait, upstream_hold.ends - NOW), reason = upstream_hold.reason}
  end
  state, until_ms = update_state(found, seen, asked, policy, doubt and function(state, enter, leave)
    blame.judge(doubt, state, enter, leave, refusal, policy, lifo)
  end)
  -- A lane that holds only because nothing else waits tries new messages immediately.
  if doubt and doubt.lone and blame.in_doubt(state) then until_ms = NOW end
  -- So does one whose groups fail: groups that have not been tried may send.
  if state == 'open' and policy.groups and asked_state == '' and found.retry_after_until <= NOW then until_ms = NOW end
  held_for = math.max(0, until_ms - NOW)
  reason = state and call('HGET', CONTROL, 'reason') or ''
end
local serves_groups = policy.groups
-- @if groups
serves_groups = serves_groups or some_group
-- @end
return {settled, stale, state or '', held_for, call('XLEN', OUTBOX), count_ready(serves_groups), reason,
        changes_of_groups}
