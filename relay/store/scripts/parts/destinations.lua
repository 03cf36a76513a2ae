-- Destinations, if each has limits of its own. DESTINATIONS holds for each that was used lately
--   {tokens: for each rate, at: when (µs), hold: until when it gets nothing (ms), waves: of throttling,
--    deferred: messages in DEFERRED, released: the newest ticket that was released from there}
-- @include group_member

local destinations = {}

local function destination(name, rates)
  local found = destinations[name]
  if found then return found end
  local packed = call('HGET', DESTINATIONS, name)
  found = packed and cmsgpack.unpack(packed) or {at = NOW_US, hold = 0, waves = 0, deferred = 0, released = 0}
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

local function defer(name, found, ticket)
  if call('ZADD', DEFERRED, 0, group_member(name, ticket)) == 1 then found.deferred = found.deferred + 1 end
end

-- When to look at a destination again: to release a message, or to forget the destination.
local function save_destinations(rates)
  for name, found in pairs(destinations) do
    local full = until_tokens_of(found, rates, math.huge)
    local wait = found.deferred > 0 and until_tokens_of(found, rates, 1) or full
    local at = math.max(NOW + math.max(1, wait), found.hold)
    if found.deferred == 0 and full == 0 and found.hold <= NOW then
      call('HDEL', DESTINATIONS, name)
      call('ZREM', DESTINATIONS_DUE, name)
    else
      call('HSET', DESTINATIONS, name, cmsgpack.pack(found))
      call('ZADD', DESTINATIONS_DUE, at, name)
    end
  end
end
