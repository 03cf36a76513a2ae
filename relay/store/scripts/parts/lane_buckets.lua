-- Rate: every bucket has to have the tokens.
local factor = 1
if policy.warmup > 0 then
  local since = tonumber(warm_since or 0)
  -- A clock that was set back starts the climb again: a negative time would be a negative rate.
  if NOW - (active or 0) > policy.warmup or since == 0 or since > NOW or probing then
    since = NOW
    call('HSET', CONTROL, 'warm_since', since)
  end
  factor = math.min(1, SLOWEST + (1 - SLOWEST) * (NOW - since) / policy.warmup)
end
if policy.adaptive and factor_saved then
  local since = tonumber(factor_at)
  if since > NOW then -- the clock was set back: it climbs from here
    since = NOW
    call('HSET', CONTROL, 'factor_at', since)
  end
  local climbed = factor_saved + (NOW - since) / CLIMB_MS
  if climbed >= 1 then
    call('HDEL', CONTROL, 'factor', 'factor_at')
  else
    factor = factor * climbed
  end
end

local rates, override_ends, slowest = policy.rates, nil, nil
if override then
  -- @include override
end

local allowed, buckets = wanted, {}
for index, rate in ipairs(rates) do
  local per_second, burst = rate[2] * factor, rate[3]
  local tokens = burst
  local saved = control[FIXED_FIELDS + index]
  if saved then
    local left, at = string.match(saved, '^(%S+) (%S+)$')
    -- A clock that was set back gives nothing until it moves on from where it is now.
    tokens = math.min(burst, left + math.max(0, NOW_US - at) * per_second / 1000000)
  end
  buckets[index] = {tokens = tokens, rate = per_second, burst = burst, field = fields[FIXED_FIELDS + index]}
  allowed = math.min(allowed, math.floor(tokens + EPSILON))
end

-- Microseconds until some 50 ms worth of tokens is there, so that a limited fleet claims seldom. Tokens that
-- come to a full bucket are lost: if one fills with a single token, claim as soon as it is there.
local function until_tokens()
  local wait, least = 0, 1000
  for _, bucket in ipairs(buckets) do
    local goal = math.max(1, math.min(bucket.burst, math.floor(bucket.rate * PACE_MS / 1000)))
    wait = math.max(wait, (goal - bucket.tokens) / bucket.rate * 1000000)
    if bucket.burst < 2 and bucket.rate <= SLOW then least = 100 end
  end
  if override_ends then wait = math.min(wait, (override_ends - NOW) * 1000) end
  return math.max(least, math.ceil(wait))
end

-- The same for a lane that has messages and no tokens: it is not idle meanwhile.
local function wait_for_tokens()
  local wait = until_tokens()
  if policy.warmup > 0 then call('HSET', CONTROL, 'active', NOW + math.ceil(wait / 1000)) end
  return wait
end

local function save_buckets(used)
  for _, bucket in ipairs(buckets) do
    bucket.tokens = bucket.tokens - used
    call('HSET', CONTROL, bucket.field, string.format('%.17g %.0f', bucket.tokens, NOW_US))
  end
end
