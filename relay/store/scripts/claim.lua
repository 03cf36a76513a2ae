-- Admission: hands out as many messages as there are tokens and free slots, or says how long to wait.
--
-- KEYS   1..22 the lane, 23 the in-flight hash of the claiming worker
-- ARGV   1 messages wanted (free slots)
--        2 policy (MessagePack map): lifo, rates ([[name, per second, burst], …]), warmup (ms),
--          adaptive, probe (ms until a probe that is never settled may be repeated),
--          shares ([normal, low]: the least share of a batch, 0..1, under a standing backlog),
--          each (false, or [[name, per second, burst], …]: the rates of each destination)
-- reply  {why, wait, claim, fan-outs, passed over, held, ticket, record, tries, ticket, record, tries, …}
--        why    'ok', or what kept it from handing out all that was wanted: 'empty', 'rate',
--               'paused', 'throttled', 'open', 'unauthorised'
--        wait   microseconds until it is worth asking again; -1 for "when something new arrives"
--        claim  the fencing token of all that is handed out here
--        fan-outs  {ticket, record, first, targets, …}: messages of which the worker is to make one for
--               each target of this chunk (a JSON array); `first` is the index of its first one. They
--               cost no tokens.
--        passed over  how many had expired or been taken back
--        held   how many this worker has in flight, as far as it is known here
--        tries  'attempts:deliveries:crashes:alone', or '' for a first try
--
-- Atomic because tokens, hand-out and lease are one step: no two workers share a token or a message,
-- and no message is out without being on its worker's list.

local MOST_PROMOTED, MOST_SCANNED, PACE_MS, SLOWEST, SLOW = 200, 300, 50, 0.1, 100
local MOST_DESTINATIONS, MOST_RELEASED = 50, 20

local wanted = tonumber(ARGV[1])
local policy = cmsgpack.unpack(ARGV[2])
local lifo, each = policy.lifo, policy.each
local pop = lifo and 'RPOP' or 'LPOP'

local fields = {'paused', 'state', 'hold', 'active', 'warm_since', 'factor', 'factor_at', 'claimed', 'claims'}
local FIXED = #fields
for index, rate in ipairs(policy.rates) do fields[FIXED + index] = 'bucket:' .. rate[1] end
local control = call('HMGET', CONTROL, unpack(fields))
local state, hold = control[2], tonumber(control[3] or 0)

-- Every key that a message without a header goes through is read before anything is moved (see lane.lua), but
-- the records: if they cannot be read, what was popped goes back.
local function lengths_of_ready()
  return {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
end
local lengths = lengths_of_ready()
local some_tried, held = call('HLEN', TRIES) > 0, call('HLEN', INFLIGHT)
local some_fan_out = call('EXISTS', unpack(FAN_OUTS)) > 0
local checked = false
if each or some_fan_out then
  check_types()
  checked = true
end

-- Time: what is due goes to the head, the earliest first.
local first = tonumber(call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2])
if first and first <= NOW then
  local due = call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, MOST_PROMOTED)
  call('ZREM', DUE, unpack(due))
  for index = #due, 1, -1 do to_head(due[index], lifo) end
  lengths = lengths_of_ready()
end

if control[1] then return {'paused', -1, 0, {}, 0} end

local probing = false
if state then
  if hold > NOW then return {state, (hold - NOW) * 1000, 0, {}, 0} end
  if state == 'throttled' then
    call('HDEL', CONTROL, 'state', 'hold', 'why', 'asked')
  else
    probing, wanted = true, 1
  end
end

-- Rate: every bucket has to have the tokens.
local factor = 1
if policy.warmup > 0 then
  local active, since = tonumber(control[4] or 0), tonumber(control[5] or 0)
  -- A clock that was set back starts the climb anew: a negative time would be a negative rate.
  if NOW - active > policy.warmup or since == 0 or since > NOW or probing then
    since = NOW
    call('HSET', CONTROL, 'warm_since', since)
  end
  factor = math.min(1, SLOWEST + (1 - SLOWEST) * (NOW - since) / policy.warmup)
end
if policy.adaptive and control[6] then
  -- Climbs back by a twentieth of the full rate a second.
  local since = tonumber(control[7])
  if since > NOW then -- the clock was set back: it climbs from here
    since = NOW
    call('HSET', CONTROL, 'factor_at', since)
  end
  local climbed = tonumber(control[6]) + (NOW - since) / 20000
  if climbed >= 1 then
    call('HDEL', CONTROL, 'factor', 'factor_at')
  else
    factor = factor * climbed
  end
end

local allowed, buckets = wanted, {}
for index, rate in ipairs(policy.rates) do
  local per_second, burst = rate[2] * factor, rate[3]
  local tokens, stamp = burst, NOW_US
  if control[FIXED + index] then
    local saved, at = string.match(control[FIXED + index], '^(%S+) (%S+)$')
    -- A clock that was set back gives nothing until it moves on from where it is now.
    tokens = math.min(burst, tonumber(saved) + math.max(0, NOW_US - tonumber(at)) * per_second / 1000000)
  end
  buckets[index] = {tokens = tokens, rate = per_second, burst = burst, field = fields[FIXED + index]}
  allowed = math.min(allowed, math.floor(tokens + 1e-6))
end

-- Microseconds until some 50 ms worth of tokens is there, so that a limited fleet asks seldom. What comes to a
-- bucket that is full is lost: where that is all of a token, it is worth asking as soon as it is there.
local function until_tokens()
  local wait, least = 0, 1000
  for _, bucket in ipairs(buckets) do
    local goal = math.max(1, math.min(bucket.burst, math.floor(bucket.rate * PACE_MS / 1000)))
    wait = math.max(wait, (goal - bucket.tokens) / bucket.rate * 1000000)
    if bucket.burst < 2 and bucket.rate <= SLOW then least = 100 end
  end
  return math.max(least, math.ceil(wait))
end

-- The same, for a lane that has messages and no tokens: it is not idle meanwhile.
local function wait_for_tokens()
  local wait = until_tokens()
  if policy.warmup > 0 then call('HSET', CONTROL, 'active', NOW + math.ceil(wait / 1000)) end
  return wait
end

local function save_buckets(used)
  local saved = {}
  for _, bucket in ipairs(buckets) do
    bucket.tokens = bucket.tokens - used
    saved[#saved + 1] = bucket.field
    saved[#saved + 1] = string.format('%.17g %.0f', bucket.tokens, NOW_US)
  end
  if #saved > 0 then call('HSET', CONTROL, unpack(saved)) end
end

-- Destinations: what was set aside comes back to the head, as far as there are tokens for it.
if each then
  for _, name in ipairs(call('ZRANGEBYSCORE', DESTINATIONS_DUE, '-inf', NOW, 'LIMIT', 0, MOST_DESTINATIONS)) do
    local found = destination(name, each)
    local number = found.hold <= NOW and found.aside > 0 and MOST_RELEASED or 0
    for _, tokens in ipairs(found.tokens) do number = math.min(number, math.floor(tokens + 1e-6)) end
    if number > 0 then
      local prefix = #name .. ':' .. name .. ':'
      local members = call('ZRANGEBYLEX', ASIDE, '[' .. prefix, '[' .. prefix .. '\255', 'LIMIT', 0, number)
      for index = #members, 1, -1 do
        local ticket = whole(tonumber(string.sub(members[index], #prefix + 1)))
        found.released = math.max(found.released, tonumber(ticket))
        to_head(ticket, lifo)
      end
      if #members > 0 then call('ZREM', ASIDE, unpack(members)) end
      found.aside = #members < number and 0 or math.max(0, found.aside - #members)
    end
  end
  lengths = lengths_of_ready()
end

-- When something is due that waits for a time, in Unix milliseconds; nil: nothing does.
local function first_due()
  local at = tonumber(call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2])
  local of_destination = each and tonumber(call('ZRANGE', DESTINATIONS_DUE, 0, 0, 'WITHSCORES')[2])
  return at and of_destination and math.min(at, of_destination) or at or of_destination
end

if allowed < 1 then
  save_buckets(0)
  if lengths[1] + lengths[2] + lengths[3] == 0 and not some_fan_out then
    local first = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
    return {'empty', first[2] and math.max(until_tokens(), (tonumber(first[2]) - NOW) * 1000) or -1, 0, {}, 0}
  end
  return {'rate', wait_for_tokens(), 0, {}, 0}
end

-- Priority: high before normal before low, but each gets its share of a standing backlog.
local handed = tonumber(control[8] or 0)
local function reserve(level, share)
  local quota = math.floor((handed + allowed) * share) - math.floor(handed * share)
  return math.min(quota, lengths[level])
end
local for_normal, for_low = reserve(2, policy.shares[1]), reserve(3, policy.shares[2])
local limits = {allowed - for_normal - for_low, for_normal, for_low}

local reply, fan_outs, taken = {'ok', 0, 0, {}, 0, 0}, {}, {0, 0, 0}
local leases, given, scanned, passed_over = {}, 0, 0, 0
local claim = whole(last_number(control[9]) + 1)
local EXPIRED = 'its time to live was over before it could be sent'

-- How a message ends that must not go out any more, or nil.
local function stopped(header)
  if header[EXPIRES] > 0 and header[EXPIRES] <= NOW then return 'expired' end
  local fan = type(header[FAN]) == 'string' and fan_out(header[FAN])
  return fan and fan.stop ~= '' and fan.stop or nil
end

-- Takes a token of each of a destination's buckets, or sets the message aside until there is one. What
-- comes later than what was set aside stays behind it.
local put_aside = 0
local function spend(name, ticket)
  local found = destination(name, each)
  local may = found.hold <= NOW and (found.aside == 0 or tonumber(ticket) <= found.released)
  for _, tokens in ipairs(found.tokens) do may = may and tokens >= 1 - 1e-6 end
  if not may then
    set_aside(name, found, ticket)
    return false
  end
  for index, tokens in ipairs(found.tokens) do found.tokens[index] = tokens - 1 end
  return true
end

-- If a key has a wrong type, messages that were popped go back: nothing else has been written for them yet.
local popped = {}
local function put_back(problem)
  for round = #popped, 1, -1 do
    local tickets = popped[round]
    for index = #tickets, 1, -1 do to_head(tickets[index], lifo) end
  end
  error(problem)
end

-- Before the first message that has a header: it may touch any key.
local function check_before_header()
  if checked then return end
  checked = true
  local fine, problem = pcall(check_special_types)
  if not fine then put_back(problem) end
end

-- Takes up to `most` live messages of one priority; true when its list is exhausted.
local function take(level, most)
  while most > 0 and scanned < MOST_SCANNED do
    local tickets = call(pop, READY[level], most)
    if not tickets then return true end
    scanned = scanned + #tickets
    if not checked then popped[#popped + 1] = tickets end
    local records = redis.pcall('HMGET', BODIES, unpack(tickets))
    if records.err then put_back(records) end
    local tries = some_tried and call('HMGET', TRIES, unpack(tickets)) or {}
    local ended = {}
    for index, ticket in ipairs(tickets) do
      local record = records[index]
      if record then
        local header = header_of(record)
        if header then check_before_header() end
        local stop = header and stopped(header)
        if stop then
          ended[#ended + 1] = ticket
          count(stop, close(ticket, header, stop, EXPIRED,
                            tonumber(string.match(tries[index] or '', '^%d+') or 0), lifo))
        elseif header and header[DELIVER] > NOW then
          -- The clock was set back since it came here.
          call('ZADD', DUE, due_at(header, header[DELIVER]), ticket)
        else
          local fans_out = header and type(header[FAN]) == 'number' and header[FAN] > 0
          local aside = not fans_out and header and each and header[DEST] ~= '' and not spend(header[DEST], ticket)
          -- What is set aside waits, and can be collapsed, as before.
          if not aside and header and header[COLLAPSE_KEY] ~= ''
             and call('HGET', COLLAPSE, header[COLLAPSE_KEY]) == ticket then
            call('HDEL', COLLAPSE, header[COLLAPSE_KEY])
          end
          if fans_out then
            call('RPUSH', FAN_OUTS[level], ticket)
            some_fan_out = true
          elseif aside then
            put_aside = put_aside + 1
          else
            leases[#leases + 1] = ticket
            leases[#leases + 1] = claim
            reply[#reply + 1] = ticket
            reply[#reply + 1] = record
            reply[#reply + 1] = tries[index] or ''
            given, most, taken[level] = given + 1, most - 1, taken[level] + 1
          end
        end
      end
    end
    if #ended > 0 then
      call('HDEL', BODIES, unpack(ended))
      call('HDEL', TRIES, unpack(ended))
      passed_over = passed_over + #ended
    end
  end
  return false
end

local exhausted = {}
for level = 1, 3 do exhausted[level] = lengths[level] == 0 or take(level, limits[level]) end
for level = 1, 3 do
  if given < allowed and not exhausted[level] then exhausted[level] = take(level, allowed - given) end
end

-- Fan-outs, in turns: as many messages of others go out as of theirs, however long the backlog. They
-- take from the front of the list and not from its end, so that a backlog does not starve them either.
local function next_fan_out(level)
  while true do
    local ticket = call('LPOP', FAN_OUTS[level])
    if not ticket then return 0 end
    local record = call('HGET', BODIES, ticket)
    local fan = record and fan_out(ticket)
    if fan and fan.rest > 0 then
      local header = header_of(record)
      if stopped(header) then
        call('HDEL', BODIES, ticket)
        count('expired', close(ticket, header, 'expired', EXPIRED, 0, lifo))
      elseif header[DELIVER] > NOW then
        -- The clock was set back since it came here.
        call('ZADD', DUE, due_at(header, header[DELIVER]), ticket)
      else
        leases[#leases + 1] = ticket
        leases[#leases + 1] = claim
        local field = #fan_outs
        fan_outs[field + 1], fan_outs[field + 2] = ticket, record
        fan_outs[field + 3] = (fan.next - 1) * fan.size
        fan_outs[field + 4] = call('HGET', TARGETS, ticket .. ':' .. fan.next)
        return 2 * math.min(fan.size, fan.rest)
      end
    end
  end
end

if some_fan_out then
  for level = 1, 3 do
    -- Messages of this priority that go first, until the next chunk's turn.
    local before = tonumber(call('HGET', CONTROL, 'fan:' .. level) or 0) - taken[level]
    if before <= 0 or exhausted[level] then before = next_fan_out(level) end
    call('HSET', CONTROL, 'fan:' .. level, before)
  end
end

if #leases > 0 then
  held = held + call('HSET', INFLIGHT, unpack(leases))
  call('HSET', CONTROL, 'claims', claim, 'claimed', whole(handed + given))
  if given > 0 and policy.warmup > 0 then call('HSET', CONTROL, 'active', NOW) end
end
save_buckets(given)
if each then save_destinations(each) end
if probing and given > 0 then call('HSET', CONTROL, 'hold', NOW + policy.probe) end

reply[3], reply[4], reply[5], reply[6] = tonumber(claim), fan_outs, passed_over, held
if given < allowed and (scanned >= MOST_SCANNED or passed_over > 0 or put_aside > 0) then
  -- There may be more: behind what was looked at, or let go by what has expired.
  reply[1], reply[2] = 'ok', 0
elseif probing and given > 0 then
  reply[1], reply[2] = state, policy.probe * 1000
elseif given < allowed then
  local at = first_due()
  reply[1], reply[2] = 'empty', at and math.max(1, at - NOW) * 1000 or -1
elseif given < wanted then
  reply[1], reply[2] = 'rate', wait_for_tokens()
end
return reply
