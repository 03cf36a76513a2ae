-- Admission: hands out as many messages as there are tokens and free slots, or says how long to wait.
--
-- @key INFLIGHT  hash of the claiming worker: ticket -> fencing token
-- ARGV   1 messages wanted (free slots)
--        2 policy (MessagePack map): lifo, rates ([[name, per second, burst], …]), warmup (ms),
--          adaptive, probe (ms until a probe that is never settled may be repeated),
--          shares ([normal, low]: the least share of a batch, 0..1, under a standing backlog),
--          each (false, or [[name, per second, burst], …]: the rates of each destination)
-- reply  {reason, wait, fencing token, fan-outs, passed over, held, ticket, record, tries, …}
--        reason       'ok', or why it handed out less than was wanted: 'empty', 'rate',
--                     'paused', 'throttled', 'open', 'trial', 'unauthorised', 'unregistered', 'faulty'
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

local MOST_PROMOTED = 200
local MOST_SCANNED = 300
local PACE_MS = 50
local SLOWEST = 0.1 -- of the rate, at the start of a warm-up
local SLOW = 100 -- messages a second
local MOST_DESTINATIONS = 50
local MOST_RELEASED = 20
local EPSILON = 0.000001 -- of a token
local FIXED_FIELDS = 10
local TRIAL_POLL = 250000 -- microseconds until another worker's probe has decided, most likely

-- @include lane
-- @include adaptive
-- @include ready

local wanted = tonumber(ARGV[1])
local policy = cmsgpack.unpack(ARGV[2])
local lifo, each = policy.lifo, policy.each

local fields = {'paused', 'state', 'hold', 'active', 'warm_since', 'factor', 'factor_at', 'claimed', 'fencing_token', 'doubts'}
for index, rate in ipairs(policy.rates) do fields[FIXED_FIELDS + index] = 'bucket:' .. rate[1] end
local control = call('HMGET', CONTROL, unpack(fields))
local paused, state, hold, active, warm_since, factor_saved, factor_at, claimed, fencing_token, doubts =
    unpack(control, 1, FIXED_FIELDS)

-- Every key that a message without a header goes through is read before anything is moved (see parts/types.lua),
-- except the records: if they cannot be read, popped tickets go back.
local lengths = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
local held = call('HLEN', INFLIGHT)
local some_fan_out = call('EXISTS', FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) > 0

-- Everything about fan-outs, destinations, and messages that may not go out now. A function of its own, because Lua
-- creates all functions of a script anew at each call, and most claims need none of these.
local function load_special(call, NOW, NOW_US, policy)
  local lifo, each = policy.lifo, policy.each
  -- @include count
  -- @include records
  -- @include fan_out
  -- @include close
  -- @include oldest_members
  -- @include destinations

  local EXPIRED = 'its time to live was over before it could be sent'

  -- How a message ends that must not go out any more, or nil.
  local function stopped(header)
    if header.expires and header.expires <= NOW then return 'expired' end
    local fan = header.part_of and fan_out(header.part_of)
    return fan and fan.stop ~= '' and fan.stop or nil
  end

  -- Takes a token of each of a destination's buckets, or defers the message until there is one. Later messages
  -- stay behind those that were deferred.
  local function spend(name, ticket)
    local found = destination(name, each)
    local may = found.hold <= NOW and (found.deferred == 0 or tonumber(ticket) <= found.released)
    for _, tokens in ipairs(found.tokens) do may = may and tokens >= 1 - EPSILON end
    if not may then
      defer(name, found, ticket)
      return false
    end
    for index, tokens in ipairs(found.tokens) do found.tokens[index] = tokens - 1 end
    return true
  end

  local special = {}

  function special.check_header_types()
    -- @include check_header_types
  end

  function special.check_types()
    -- @include check_types
  end

  -- Releases deferred messages to the head, as far as there are tokens for them.
  function special.release_deferred()
    for _, name in ipairs(call('ZRANGEBYSCORE', DESTINATIONS_DUE, '-inf', NOW, 'LIMIT', 0, MOST_DESTINATIONS)) do
      local found = destination(name, each)
      local number = found.hold <= NOW and found.deferred > 0 and MOST_RELEASED or 0
      for _, tokens in ipairs(found.tokens) do number = math.min(number, math.floor(tokens + EPSILON)) end
      if number > 0 then
        local members = oldest_members(DEFERRED, name, number)
        for index = #members, 1, -1 do
          local ticket = ticket_of(members[index])
          found.released = math.max(found.released, tonumber(ticket))
          to_head(ticket, lifo)
        end
        if #members > 0 then call('ZREM', DEFERRED, unpack(members)) end
        found.deferred = #members < number and 0 or math.max(0, found.deferred - #members)
      end
    end
  end

  -- The next place of a message that was popped from its list: 'out' (to the worker), 'ended', 'due', 'deferred'
  -- or 'fan-out'. It has gone there already, unless it goes out.
  function special.route(ticket, header, level, tries)
    local stop = stopped(header)
    if stop then
      local attempts = tonumber(string.match(tries or '', '^%d+') or 0)
      count(stop, close(ticket, header, stop, EXPIRED, attempts, lifo))
      return 'ended'
    end
    if header.deliver and header.deliver > NOW then
      -- The clock was set back since it came here.
      call('ZADD', DUE, due_at(header, header.deliver), ticket)
      return 'due'
    end
    if header.targets then
      call('RPUSH', FAN_OUTS[level], ticket)
      return 'fan-out'
    end
    if each and header.destination and not spend(header.destination, ticket) then return 'deferred' end
    return 'out'
  end

  -- The next chunk of a fan-out: {ticket, record, first, targets}, and how many messages of others go before the
  -- chunk after it; nil and 0 if there is none.
  local function next_fan_out(level)
    while true do
      local ticket = call('LPOP', FAN_OUTS[level])
      if not ticket then return nil, 0 end
      local record = call('HGET', BODIES, ticket)
      local fan = record and fan_out(ticket)
      if fan and fan.rest > 0 then
        local header = header_of(record)
        if stopped(header) then
          call('HDEL', BODIES, ticket)
          count('expired', close(ticket, header, 'expired', EXPIRED, 0, lifo))
        elseif header.deliver and header.deliver > NOW then
          -- The clock was set back since it came here.
          call('ZADD', DUE, due_at(header, header.deliver), ticket)
        else
          local targets = call('HGET', TARGETS, ticket .. ':' .. fan.next)
          return {ticket, record, (fan.next - 1) * fan.size, targets}, 2 * math.min(fan.size, fan.rest)
        end
      end
    end
  end

  -- Fan-outs, in turns: as many messages of others go out as of theirs, however long the backlog. They
  -- take from the front of the list and not from its end, so that a backlog does not starve them either.
  function special.fan_outs(given, exhausted)
    local chunks = {}
    for level = 1, 3 do
      local chunk
      -- Messages of this priority that go first, until the next chunk's turn.
      local before = tonumber(call('HGET', CONTROL, 'fan:' .. level) or 0) - given[level]
      if before <= 0 or exhausted[level] then chunk, before = next_fan_out(level) end
      if chunk then chunks[#chunks + 1] = chunk end
      call('HSET', CONTROL, 'fan:' .. level, before)
    end
    return chunks
  end

  function special.save()
    if each then save_destinations(each) end
  end

  return special
end
local special

local checked = false
if each or some_fan_out then
  special = load_special(call, NOW, NOW_US, policy)
  special.check_types()
  checked = true
end

-- Time: messages that are due go to the head, the earliest first.
local function first_in(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
end
local first_due = first_in(DUE)
local due_is_known = true
if first_due and first_due <= NOW then
  local due = call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, MOST_PROMOTED)
  call('ZREM', DUE, unpack(due))
  for index = #due, 1, -1 do to_head(due[index], lifo) end
  lengths = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
  due_is_known = false
end

if paused then
  local ends = tonumber(call('HGET', CONTROL, 'paused_until') or 0)
  if ends == 0 or ends > NOW then return {'paused', ends == 0 and -1 or (ends - NOW) * 1000, 0, {}, 0} end
  call('HDEL', CONTROL, 'paused', 'paused_until', 'paused_at', 'paused_by', 'paused_reason')
end

-- Suspects, in a function of its own as above: few lanes have any.
local function load_doubt(call, NOW)
  -- @include blame

  local doubt = open_doubt()

  -- Ends messages whose targets are gone, if no more of them came. Returns how many.
  function doubt.report()
    if doubt.report_at == 0 or doubt.report_at > NOW or state == 'unregistered' then return 0 end
    local before = call('HLEN', SUSPECTS)
    release_suspects(function(fields) return fields.gone end, function() return true end, lifo)
    doubt.report_at = 0
    save_doubt(doubt)
    return before - call('HLEN', SUSPECTS)
  end

  -- Tries a suspect again: the one whose last refusal is the longest ago, so that none is tried twice in a row.
  -- Returns false if a message is in flight whose answer may decide.
  function doubt.retry()
    if count_others() > 0 then return false end
    local first
    for _, found in ipairs(suspects(function(fields) return not fields.gone or state == 'unregistered' end)) do
      if not first or found.fields.since < first.fields.since then first = found end
    end
    if first then
      call('HDEL', SUSPECTS, first.ticket)
      retry_suspect(first.ticket, 0, lifo)
    end
    return true
  end

  return doubt
end
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

local probing = false
if state then
  hold = tonumber(hold or 0)
  local wait = (hold - NOW) * 1000
  local lone = doubt and doubt.lone
  if wait > 0 and not (lone and (lengths[1] + lengths[2] + lengths[3] > 0 or some_fan_out)) then
    if state == 'trial' then wait = math.min(wait, TRIAL_POLL) end
    return {lone and 'empty' or state, wait, 0, {}, reported}
  end
  if state == 'throttled' then
    call('HDEL', CONTROL, 'state', 'hold', 'reason', 'retry_after_until')
  else
    probing, wanted = true, 1
  end
end

if doubt and lengths[1] + lengths[2] + lengths[3] == 0 and not some_fan_out then
  doubt.waits = not doubt.retry() and state
  lengths = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
end

-- Rate: every bucket has to have the tokens.
local factor = 1
if policy.warmup > 0 then
  local since = tonumber(warm_since or 0)
  -- A clock that was set back starts the climb anew: a negative time would be a negative rate.
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

local allowed, buckets = wanted, {}
for index, rate in ipairs(policy.rates) do
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

if each then
  special.release_deferred()
  lengths = {call('LLEN', READY[1]), call('LLEN', READY[2]), call('LLEN', READY[3])}
end

-- When the next message or destination is due, in Unix milliseconds; nil if none is.
local function next_due()
  local at = first_due
  if not due_is_known then at = first_in(DUE) end
  local of_destination = each and first_in(DESTINATIONS_DUE)
  local report_at = doubt and (doubt.report_at > NOW and doubt.report_at or doubt.waits and NOW + TRIAL_POLL / 1000)
  at = math.min(at or math.huge, of_destination or math.huge, report_at or math.huge)
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
  if special then special.save() end
  local at = next_due()
  return {'empty', at and math.max(1, at - NOW) * 1000 or -1, 0, {}, reported, held}
end

-- Priority: high before normal before low, but each gets its share of a standing backlog.
claimed = tonumber(claimed or 0)
local function reserve(level, share)
  local quota = math.floor((claimed + allowed) * share) - math.floor(claimed * share)
  return math.min(quota, lengths[level])
end
local for_normal, for_low = reserve(2, policy.shares[1]), reserve(3, policy.shares[2])
local limits = {allowed - for_normal - for_low, for_normal, for_low}

-- @include numbers

local some_tried = call('HLEN', TRIES) > 0
local token = whole(last_number(fencing_token) + 1)
local reply, leases = {'ok', 0, tonumber(token), {}, 0, held}, {}
local given, total, scanned, passed_over, deferred = {0, 0, 0}, 0, 0, 0, 0

-- If a key has a wrong type, popped tickets go back: nothing else has been written for them yet.
local popped = {}
local function put_back(problem)
  for round = #popped, 1, -1 do
    local tickets = popped[round]
    for index = #tickets, 1, -1 do to_head(tickets[index], lifo) end
  end
  error(problem)
end

-- The next place of a popped message that has a header. If that is not simply the worker, all keys are checked,
-- because the message may touch any.
local function route(ticket, header, level, tries)
  if not (header.targets or header.part_of or each and header.destination
          or header.expires and header.expires <= NOW or header.deliver and header.deliver > NOW) then
    return 'out'
  end
  if not special then special = load_special(call, NOW, NOW_US, policy) end
  if not checked then
    checked = true
    local fine, problem = pcall(special.check_header_types)
    if not fine then put_back(problem) end
  end
  due_is_known = false
  return special.route(ticket, header, level, tries)
end

-- A message that goes out can be collapsed no more.
local function free_collapse_key(ticket, key)
  local newest = redis.pcall('HGET', COLLAPSE, key)
  if type(newest) == 'table' then put_back(newest) end
  if newest == ticket then call('HDEL', COLLAPSE, key) end
end

-- Takes up to `most` live messages of one priority. Returns whether its list is exhausted.
local pop = lifo and 'RPOP' or 'LPOP'
local function take(level, most)
  while most > 0 and scanned < MOST_SCANNED do
    local tickets = call(pop, READY[level], most)
    if not tickets then return true end
    scanned = scanned + #tickets
    if not checked then popped[#popped + 1] = tickets end
    local records = redis.pcall('HMGET', BODIES, unpack(tickets))
    if records.err then put_back(records) end
    local tries = some_tried and call('HMGET', TRIES, unpack(tickets)) or {}
    local ended, before = {}, total
    for index, ticket in ipairs(tickets) do
      local record = records[index]
      if record then
        local place = 'out'
        local high, low = string.byte(record, 1, 2)
        if low ~= 0 or high ~= 0 then
          local header = cmsgpack.unpack(string.sub(record, 3, 2 + high * 256 + low))
          place = route(ticket, header, level, tries[index])
          if header.collapse_key and (place == 'out' or place == 'fan-out') then
            free_collapse_key(ticket, header.collapse_key)
          end
        end
        if place == 'out' then
          local field = 2 * total
          leases[field + 1], leases[field + 2] = ticket, token
          field = 6 + 3 * total
          reply[field + 1], reply[field + 2], reply[field + 3] = ticket, record, tries[index] or ''
          total = total + 1
        elseif place == 'ended' then
          ended[#ended + 1] = ticket
        elseif place == 'deferred' then
          deferred = deferred + 1
        elseif place == 'fan-out' then
          some_fan_out = true
        end
      end
    end
    given[level], most = given[level] + total - before, most - (total - before)
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
  reply[6] = held + call('HSET', INFLIGHT, unpack(leases))
  call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole(claimed + total))
  if total > 0 and policy.warmup > 0 then call('HSET', CONTROL, 'active', NOW) end
end
save_buckets(total)
if special then special.save() end
if probing and total > 0 then call('HSET', CONTROL, 'hold', NOW + policy.probe) end

reply[5] = passed_over + reported
if total < allowed and (scanned >= MOST_SCANNED or passed_over > 0 or deferred > 0) then
  -- There may be more: behind the scanned ones, or released by those that expired.
  reply[1], reply[2] = 'ok', 0
elseif probing and total > 0 then
  reply[1], reply[2] = state, state == 'trial' and TRIAL_POLL or policy.probe * 1000
elseif total < allowed then
  local at = next_due()
  reply[1], reply[2] = 'empty', at and math.max(1, at - NOW) * 1000 or -1
elseif total < wanted then
  reply[1], reply[2] = 'rate', wait_for_tokens()
end
return reply
