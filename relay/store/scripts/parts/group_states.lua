-- The state of groups. `rules` are those of the lane's policy:
--   rates ([[name, per second, burst], …]), concurrency (0: unlimited), failures (0: no breaker), share (0: none),
--   window, cooldown, disable_after (0: never) and probe, all four in ms, and one_upstream (true if one provider
--   serves all groups, so that they share its quota)
--
-- GROUPS  group -> its state, unless that is neutral:
--   tokens    of each rate; at: when they were counted (µs)
--   out       true while the group is in no rotation: it may not send
--   full      true if it is out because of its concurrency; the next settle of one of its messages lets it in
--   hold      until when it may not send (ms), in the state 'throttled' or 'open', for this reason
--   waves     of throttling in a row
--   behind    [[ticket, time (ms)], …]: throttled messages. They go behind those that waited at that time
--   failures  in a row; failed_at: the last one (ms); since: of the first one without a success (ms)
--   window    when the counts of failed and answered deliveries began (ms)
--   paused    {till (ms, 0: until somebody resumes it), by, at (ms), reason}
--   disabled  since when (ms); its messages become dead letters
-- GROUPS_IN_FLIGHT  group -> messages in flight, over all workers; negative once one was answered while others were
-- GROUPS_DUE        group by the time from which to look at it again (ms)
-- @include group_member
-- @include group_state
-- @include set_fields
-- @include add_members
-- @include whole

local FORGOTTEN = 600000 -- ms after which failures and waves count no more
local EPSILON = 0.000001 -- of a token

local NO_RULES = {rates = {}, concurrency = 0, failures = 0, share = 0, window = 0, cooldown = 0, disable_after = 0, probe = 0}
local rules = policy.groups or NO_RULES
local rates = rules.rates
local has_rates = #rates > 0
local concurrency = rules.concurrency > 0 and rules.concurrency or math.huge
local groups, leaving = {}, {}

-- The state of a group of which there is nothing to remember: it is shared, and must not be changed.
local NEUTRAL = {}

-- Reads groups that are not yet known here.
local function open_groups(names)
  local new = names
  if next(groups) then
    new = {}
    for _, name in ipairs(names) do
      if not groups[name] then new[#new + 1] = name end
    end
  end
  if #new == 0 then return end
  local counts = call('HMGET', GROUPS_IN_FLIGHT, unpack(new))
  local states = call('EXISTS', GROUPS) == 1 and call('HMGET', GROUPS, unpack(new)) or {}
  for index = 1, #new do
    local name, packed, count = new[index], states[index], (counts[index] or 0) + 0
    -- With these fields at once, the table need not grow. `changed`, `answered` and `room` are for later.
    groups[name] = {
      name = name, state = packed and state_of(packed) or NEUTRAL, is_stored = packed,
      in_flight = count < 0 and -count or count, was_in_flight = count, sent = 0,
    }
  end
end

-- Returns whether an answer changes the stored state of a group, besides the messages in flight.
local function has_trouble(state)
  return state == NEUTRAL or state.failures or state.since or state.window or state.waves or state.hold or state.paused or state.disabled
end

-- The state of a group, to be changed and saved.
local function change(group)
  if group.state == NEUTRAL then group.state = {} end
  group.changed = true
  return group.state
end

-- Adds the tokens since they were counted. Returns the number of the rate that has the fewest.
local function refill(state)
  local tokens, at, fewest = state.tokens or {}, state.at, math.huge
  local elapsed = at and at < NOW_US and (NOW_US - at) / 1000000 or 0
  for index = 1, #rates do
    local rate = rates[index]
    local burst = rate[3]
    local number = (tokens[index] or burst) + elapsed * rate[2]
    if number > burst then number = burst end
    if number < fewest then fewest = number end
    tokens[index] = number
  end
  state.tokens, state.at = tokens, NOW_US
  return fewest
end

-- Milliseconds until it has `number` tokens of every rate, as far as its buckets go.
local function until_tokens_of(state, number)
  local longest, tokens = 0, state.tokens or {}
  for index = 1, #rates do
    local rate = rates[index]
    local burst = rate[3]
    local wait = ((number < burst and number or burst) - (tokens[index] or burst)) / rate[2] * 1000
    if wait > longest then longest = wait end
  end
  return math.ceil(longest)
end

-- How many messages the group may send now, at most `most`.
local function allowance(group, most)
  local state = group.state
  local free = concurrency - group.in_flight
  if most > free then most = free end
  if state == NEUTRAL and not has_rates then return most end
  if state.disabled then return most end
  if state.paused then
    if state.paused.till == 0 or state.paused.till > NOW then return 0 end
    state.paused, group.changed = nil, true
  end
  if state.hold then
    if state.hold > NOW then return 0 end
    group.changed = true
    if state.state == 'open' then
      most = math.min(most, 1) -- a probe
    else
      state.hold, state.state, state.reason = nil, nil, nil
    end
  end
  if has_rates then
    local room = group.room
    if not room then
      room = math.floor(refill(change(group)) + EPSILON)
      group.room = room
    end
    if most > room then most = room end
  end
  return most
end

-- So many messages of the group go out, as its allowance permits. Returns whether it may send more.
local function spend(group, number)
  local state, in_flight, room = group.state, group.in_flight + number, 1
  group.in_flight = in_flight
  if has_rates then
    local tokens = state.tokens
    for index = 1, #rates do tokens[index] = tokens[index] - number end
    room = group.room - number
    group.room = room
  end
  if state.state == 'open' then
    state.hold = NOW + rules.probe
    return false
  end
  return in_flight < concurrency and room >= 1
end

local function leave_rotation(group)
  local state = change(group)
  state.out = true
  state.full = group.in_flight >= concurrency or nil
  leaving[#leaving + 1] = group.name
end

local function take_out_of_rotations()
  if #leaving == 0 then return end
  local names = {}
  for _, name in ipairs(leaving) do
    if groups[name].state.out then names[#names + 1] = name end
  end
  leaving = {}
  for level = 1, #names > 0 and 3 or 0 do call('ZREM', ROTATION[level], unpack(names)) end
end

local some_wait = {} -- priorities in which some message waits
local function first_waiting(level, name)
  local prefix = #name .. ':' .. name .. ':'
  return call('ZRANGEBYLEX', WAITING[level], '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, 1)[1]
end

local function enter_rotation(group)
  local state = change(group)
  state.out, state.full = nil, nil
  for level = 1, 3 do
    if some_wait[level] == nil then some_wait[level] = call('EXISTS', WAITING[level]) == 1 end
    if some_wait[level] and first_waiting(level, group.name) then call('ZADD', ROTATION[level], 0, group.name) end
  end
end

-- Lets a group that is out in again, if it may send.
local function revise(group)
  if not group.state.out then return end
  if allowance(group, 1) > 0 then enter_rotation(group) else leave_rotation(group) end
end

-- When there will be nothing to remember of the group any more (ms), unless it sends again.
local function forget_at(state)
  local at = state.hold or 0
  if state.waves then at = at + FORGOTTEN end
  if state.behind then at = math.max(at, state.behind[#state.behind][2] + FORGOTTEN) end
  if state.failures or state.since then
    at = math.max(at, (state.failed_at or NOW) + math.max(FORGOTTEN, rules.disable_after))
  end
  if state.window then at = math.max(at, math.min(NOW, state.window) + rules.window) end
  if state.tokens then
    if state.at ~= NOW_US then refill(state) end
    local wait = until_tokens_of(state, math.huge)
    if NOW + wait > at then at = NOW + wait end
  end
  return at
end

-- Numbers as text: Redis takes longer for each number than for a text.
local texts = {}
local function text_of(number)
  local text = texts[number]
  if not text then
    text = whole(number)
    texts[number] = text
  end
  return text
end

local function save_groups()
  take_out_of_rotations()
  local counts, idle, stored, forgotten, due, not_due = {}, {}, {}, {}, {}, {}
  for name, group in pairs(groups) do
    local number, before = group.in_flight, group.was_in_flight
    if before < 0 or group.answered then number = -number end
    if number ~= before then
      if number ~= 0 then
        local length = #counts
        counts[length + 1], counts[length + 2] = name, texts[number] or text_of(number)
      else
        idle[#idle + 1] = name
      end
    end
    if group.changed then
      local state, at = group.state, nil
      if state.out then
        if state.paused then
          at = state.paused.till > 0 and state.paused.till or nil
        elseif (state.hold or 0) > NOW then
          at = state.hold
        elseif not state.full then
          at = NOW + math.max(1, until_tokens_of(state, 1))
        end
      elseif not (state.paused or state.disabled) then
        at = forget_at(state)
      end
      local keeps = state.out or state.paused or state.disabled or at > NOW
      if keeps then
        local length = #stored
        stored[length + 1], stored[length + 2] = name, cmsgpack.pack(state)
        if at then
          length = #due
          due[length + 1], due[length + 2] = texts[at] or text_of(at), name
        end
      elseif group.is_stored then
        forgotten[#forgotten + 1] = name
      end
      if not (keeps and at) then not_due[#not_due + 1] = name end
    end
  end
  set_fields(GROUPS, stored)
  if #forgotten > 0 then call('HDEL', GROUPS, unpack(forgotten)) end
  add_members(GROUPS_DUE, due)
  if #not_due > 0 then call('ZREM', GROUPS_DUE, unpack(not_due)) end
  set_fields(GROUPS_IN_FLIGHT, counts)
  if #idle > 0 then call('HDEL', GROUPS_IN_FLIGHT, unpack(idle)) end
end
