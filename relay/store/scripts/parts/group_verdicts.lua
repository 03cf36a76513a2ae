-- Decides how groups go on after a settle.
-- @include group_states
-- @include outbox
-- @include throttling

-- Groups whose state has changed, for the log: name, state ('open', 'throttled', 'disabled', or '' if it is served again),
-- reason, ms until its hold ends, …
local changes_of_state = {}

local function report(name, state, reason, hold)
  for _, value in ipairs({name, state, reason or '', math.max(0, (hold or NOW) - NOW)}) do
    changes_of_state[#changes_of_state + 1] = value
  end
end

local MOST_BEHIND = 50 -- throttled messages of a group that go behind others when its hold is over
local MOST_TRIED = 1000 -- groups that the breaker of the lane looks at
local LEAST_THROTTLED = 3 -- groups in a row that show that the provider throttles all of them

-- A throttled group waits as long as the answer says, or twice as long as after the wave before.
local function throttle(state, sums)
  if (state.hold or 0) <= NOW then
    -- The answers of one wave arrive together.
    state.waves = (state.waves or 0) + 1
    if sums.wait == 0 then sums.wait = throttle_wait(state.waves) end
  end
  state.hold = math.max(state.hold or 0, NOW + sums.wait)
  if state.state ~= 'open' then state.state, state.reason = 'throttled', sums.reason end
  local behind, again = {}, {}
  for _, ticket in ipairs(sums.tickets) do again[ticket] = true end
  for _, found in ipairs(state.behind or {}) do
    if not again[found[1]] then behind[#behind + 1] = found end
  end
  for _, ticket in ipairs(sums.tickets) do behind[#behind + 1] = {ticket, state.hold} end
  while #behind > MOST_BEHIND do table.remove(behind, 1) end
  state.behind = behind
end

-- The breaker of the group opens after failures in a row, or if their share within a window is too large.
local function count_failures(state, sums)
  local failures = sums.answered > 0 and sums.row or (state.failures or 0) + sums.row
  state.failures = failures > 0 and failures or nil
  if sums.broken > 0 then
    state.failed_at = NOW
    if not state.window or NOW - state.window > rules.window or state.window > NOW then
      state.window, state.failed, state.answered = NOW, 0, 0
    end
  end
  if state.window then
    state.failed, state.answered = state.failed + sums.broken, state.answered + sums.answered
  end
  if state.state == 'open' then
    if sums.answered > 0 then
      state.state, state.hold, state.reason, state.window = nil, nil, nil, nil
    elseif sums.broken > 0 then
      state.hold, state.reason = NOW + rules.cooldown, 'the probe failed: ' .. sums.reason
    end
    return
  end
  local all = state.window and state.failed + state.answered or 0
  local reason
  if rules.failures > 0 and sums.row > 0 and failures >= rules.failures then
    reason = failures .. ' failures in a row: ' .. sums.reason
  elseif rules.failures > 0 and rules.share > 0 and sums.broken > 0 and all >= 2 * rules.failures
         and state.failed >= rules.share * all then
    reason = state.failed .. ' of ' .. all .. ' deliveries failed: ' .. sums.reason
  end
  if reason then
    state.state, state.reason = 'open', reason
    state.hold = math.max(state.hold or 0, NOW + rules.cooldown)
  end
end

-- After a long time without a single success the group is disabled.
local function count_days(name, state, sums)
  if sums.delivered > 0 then
    state.since = nil
  elseif sums.broken > 0 or state.since then
    state.since = state.since or NOW
    if rules.disable_after > 0 and NOW - state.since >= rules.disable_after and not state.disabled then
      state.disabled = NOW
      post({'feedback', name, 'group disabled', state.since / 1000, '', name})
      report(name, 'disabled', sums.reason)
    end
  end
end

-- Groups whose first answer is still to come: they are no failures.
local function count_untried()
  local untried, known = call('HLEN', GROUPS_IN_FLIGHT), call('HKEYS', GROUPS_TRIED)
  for _, number in ipairs(#known > 0 and call('HMGET', GROUPS_IN_FLIGHT, unpack(known)) or {}) do
    if number then untried = untried - 1 end
  end
  return untried
end

-- Which groups were tried since the first failure of the lane, within its window: how many failed, and how many of
-- their messages. Nil if no group failed.
local function count_tried(by_group, window)
  local failed_now = 0
  for _, sums in pairs(by_group) do failed_now = failed_now + sums.broken end
  if not window and failed_now == 0 then return nil end
  if not window or NOW - window > policy.window or tonumber(window) > NOW then
    call('DEL', GROUPS_TRIED)
    if failed_now == 0 then
      call('HDEL', CONTROL, 'groups_window', 'groups_broken', 'groups_failing', 'groups_tried')
      return nil
    end
    call('HSET', CONTROL, 'groups_window', NOW, 'groups_broken', 0, 'groups_failing', 0, 'groups_tried', 0)
  end
  local names, known = {}, call('HLEN', GROUPS_TRIED)
  for name in pairs(by_group) do names[#names + 1] = name end
  local found, changes, failing, tried = call('HMGET', GROUPS_TRIED, unpack(names)), {}, 0, 0
  for index, name in ipairs(names) do
    local sums = by_group[name]
    local now = sums.answered > 0 and 's' or sums.broken > 0 and 'f'
    if now and now ~= found[index] and found[index] ~= 's' and (found[index] or known + tried < MOST_TRIED) then
      if not found[index] then tried = tried + 1 end
      if now == 'f' then failing = failing + 1 elseif found[index] then failing = failing - 1 end
      changes[#changes + 1] = name
      changes[#changes + 1] = now
    end
  end
  if #changes > 0 then
    call('HSET', GROUPS_TRIED, unpack(changes))
    call('EXPIRE', GROUPS_TRIED, math.ceil(policy.window / 1000) + 1) -- nothing else ends it if no more settles come
  end
  return {
    tried = call('HINCRBY', CONTROL, 'groups_tried', tried), count_untried = count_untried,
    failing = call('HINCRBY', CONTROL, 'groups_failing', failing),
    broken = call('HINCRBY', CONTROL, 'groups_broken', failed_now), broken_now = failed_now,
  }
end

-- If all groups share one upstream, and several of them are throttled with no delivery in between, the quota is the
-- provider's. `packed` has those so far: {names, ends (ms, of the latest hold)}. Returns the hold that the lane needs as
-- well: {ends, reason}; nil if only groups wait.
local function count_throttled(by_group, packed)
  local delivered, fresh = 0, {}
  for name, sums in pairs(by_group) do
    delivered = delivered + sums.delivered
    if sums.wait then fresh[#fresh + 1] = name end
  end
  if delivered > 0 and packed then call('HDEL', CONTROL, 'groups_throttled') end
  if delivered > 0 or #fresh == 0 or not rules.one_upstream then return nil end
  local row = packed and cmsgpack.unpack(packed)
  if not row or row.ends + FORGOTTEN < NOW then row = {names = {}, ends = 0} end
  local known, reason = {}, nil
  for _, name in ipairs(row.names) do known[name] = true end
  for _, name in ipairs(fresh) do
    if not known[name] and #row.names < LEAST_THROTTLED then row.names[#row.names + 1] = name end
    row.ends, reason = math.max(row.ends, groups[name].state.hold), by_group[name].reason
  end
  call('HSET', CONTROL, 'groups_throttled', cmsgpack.pack(row))
  if #row.names < LEAST_THROTTLED then return nil end
  return {ends = row.ends, reason = LEAST_THROTTLED .. ' groups in a row were throttled: ' .. reason}
end

-- Applies the sums of a settle (see settle.lua) to its groups. `window` and `throttled` are fields of CONTROL. Returns for the breaker of the lane: tried and failing
-- (groups), count_untried, broken (their messages that failed within the window), broken_now; nil if no group failed lately.
-- Then the changes of states for people, and the hold of count_throttled.
local function judge_groups(by_group, window, throttled)
  local names = {}
  for name in pairs(by_group) do names[#names + 1] = name end
  open_groups(names)
  for name, sums in pairs(by_group) do
    local group = groups[name]
    local state = group.state
    group.in_flight = math.max(0, group.in_flight - sums.freed)
    if sums.answered > 0 then group.answered = true end
    if group.is_stored or sums.broken > 0 or sums.wait then
      state = change(group)
      local state_before, held_before = state.state, (state.hold or 0) > NOW
      if sums.answered > 0 then state.waves = nil end
      count_failures(state, sums)
      if sums.wait then throttle(state, sums) end
      if state.state and (state.state ~= state_before or not held_before and (sums.wait or sums.broken > 0)) then
        report(name, state.state, state.reason, state.hold)
      elseif state_before == 'open' and not state.state then
        report(name, '')
      end
      count_days(name, state, sums)
      if state.disabled or not ((state.hold or 0) > NOW or state.paused) then
        revise(group)
      else
        leave_rotation(group)
      end
    end
  end
  save_groups()
  return count_tried(by_group, window), changes_of_state, count_throttled(by_group, throttled)
end
