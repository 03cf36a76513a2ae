-- @include adaptive
-- @include throttling
-- @include doubt
-- @include note_hold

local LEAST_FAILING = 3 -- groups, before their share counts
local MOST_GROUPS = 0.5 -- the least share of groups that fail, for the lane to open

-- The state of the lane, one for the whole fleet: throttled or open, or in doubt (see blame.lua), until when, and why.

-- `found` is what CONTROL says: failures, window, state, hold, retry_after_until, throttles. `seen` is what this call
-- adds: answered, broken (failed without an answer), failures (in a row, now), last_reason and groups (see
-- group_verdicts.lua). `asked` is the
-- hold that an answer asks for: {state, wait (ms), reason}. `judge`, if not nil, decides about refusals. Returns the state and the end of the hold.
local function update_state(found, seen, asked, policy, judge)
  local state, hold, window = found.state, found.hold, found.window
  local retry_after_until = found.retry_after_until

  local function enter(name, until_ms, reason)
    if state ~= name then
      if state then note_state(NOW) end
      call('HSET', CONTROL, 'since', NOW)
    end
    state, hold = name, math.max(until_ms, retry_after_until, NOW)
    call('HSET', CONTROL, 'state', name, 'hold', hold, 'reason', reason)
  end

  local function leave()
    note_state(NOW)
    call('HDEL', CONTROL, 'state', 'hold', 'reason', 'since', 'warm_since',
         'window', 'window_failed', 'window_answered')
    if seen.groups then
      -- Those that fail are held by their own breakers; they do not count again.
      call('DEL', GROUPS_TRIED)
      call('HDEL', CONTROL, 'groups_window', 'groups_broken', 'groups_failing', 'groups_tried')
    end
    window = nil
    state, hold = false, 0
    if retry_after_until > NOW then enter('throttled', retry_after_until, 'the provider asked to wait') end
  end

  if judge then judge(state, enter, leave) end

  if seen.answered > 0 then
    if state == 'open' then leave() end
    if asked.state == '' and found.throttles then call('HDEL', CONTROL, 'throttles') end
  end

  if asked.state == 'throttled' then
    -- The answers of one wave arrive together: only the first of them counts as one more.
    local fresh = not (state == 'throttled' and hold > NOW)
    local wait = asked.wait
    if wait == 0 and fresh then
      local waves = call('HINCRBY', CONTROL, 'throttles', 1)
      wait = throttle_wait(waves)
    end
    if fresh and policy.adaptive then
      local factor, at = unpack(call('HMGET', CONTROL, 'factor', 'factor_at'))
      local now_at = factor and math.min(1, factor + (NOW - at) / CLIMB_MS) or 1
      call('HSET', CONTROL, 'factor', string.format('%.6f', math.max(0.02, now_at / 2)), 'factor_at', NOW)
    end
    retry_after_until = math.max(retry_after_until, NOW + wait)
    call('HSET', CONTROL, 'retry_after_until', retry_after_until)
    enter(state or 'throttled', math.max(hold, NOW + wait), asked.reason)
    call('HINCRBY', CONTROL, 'throttled', 1)
  end

  local failures = seen.failures
  if failures ~= found.failures then call('HSET', CONTROL, 'failures', failures) end

  -- The share of failures is counted from a first one on: a lane that has none pays nothing.
  if policy.share > 0 and (seen.broken > 0 or window) then
    local failed_in, answered_in = seen.broken, seen.answered
    if window and window <= NOW and NOW - window <= policy.window then
      failed_in = call('HINCRBY', CONTROL, 'window_failed', seen.broken)
      answered_in = call('HINCRBY', CONTROL, 'window_answered', seen.answered)
    elseif seen.broken > 0 then
      call('HSET', CONTROL, 'window', NOW, 'window_failed', seen.broken, 'window_answered', seen.answered)
    else
      call('HDEL', CONTROL, 'window', 'window_failed', 'window_answered')
      failed_in = 0
    end
    local all = failed_in + answered_in
    if state == 'open' and seen.broken > 0 then
      enter('open', NOW + policy.cooldown, 'the probe failed' .. seen.last_reason)
    end
    if all >= 2 * policy.failures and failed_in >= policy.share * all and seen.broken > 0
       and state ~= 'open' and not in_doubt(state) then
      enter('open', NOW + policy.cooldown, failed_in .. ' of ' .. all .. ' deliveries failed' .. seen.last_reason)
    end
  end
  -- A group that fails is held by its own breaker; the lane opens only if most groups fail.
  local groups = seen.groups
  if groups and groups.broken_now > 0 and not in_doubt(state) then
    if state == 'open' then
      enter('open', NOW + policy.cooldown, 'the probe failed')
    elseif policy.failures > 0 and groups.broken >= policy.failures and groups.failing >= LEAST_FAILING then
      local share, all = math.max(policy.share, MOST_GROUPS), groups.tried
      if groups.failing > share * all then all = all + groups.count_untried() end -- which is a long list
      if groups.failing > share * all then
        enter('open', NOW + policy.cooldown, groups.failing .. ' of ' .. all .. ' groups fail')
      end
    end
  end
  if policy.failures > 0 and failures >= policy.failures and failures > found.failures and not in_doubt(state) then
    enter('open', NOW + policy.cooldown, failures .. ' failures in a row' .. seen.last_reason)
  end
  return state, hold
end
