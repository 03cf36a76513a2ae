-- Adds the counts of one worker, and those of the lane itself, to the statistics and the journal of the lane.
--
-- @key MINUTE  hash: the statistics of the present minute
-- @key HOUR    hash: those of the present hour
-- ARGV   1 policy (MessagePack map): worker, rate (messages a second; 0: unlimited), journal (the most entries of the
--          journal; 0: none)
--        2 number of this flush: the worker repeats one whose reply was lost, under the same number. '': only take samples
--        3 counts (MessagePack map: field -> number), reasons excepted
--        4 reasons (MessagePack map: reason -> number)
--        5 groups (MessagePack map: group -> {delivered, failed})
--        6.. entries of the journal
-- reply  {the time of Redis's clock (ms), 1 if the lane is at rest: this call found neither counts, messages nor a hold}
--
-- Fields of MINUTE and HOUR: o:OUTCOME  s:STATUS  r:REASON (and `reasons`, their number)  d:BUCKET, d:sum (push to end, microseconds)
--   q:BUCKET, q:sum (request)  h:STATE (held, ms)  sent  allowed (thousandths)  g:GROUP 'delivered failed rank' (and `groups`)
--   oldest (ms)  backlog
-- Fields of STATISTICS: total:OUTCOME and `claimed`, as counted last  at (of the last sample, ms)  flush:WORKER
--
-- Atomic because each flush, and each event that the lane counts, must be added exactly once.

local KEEP_MINUTE = 86400 -- seconds
local KEEP_HOUR = 7776000
local MOST_REASONS = 20
local SAMPLE_EVERY = 900 -- ms
local LONGEST_SPAN = 15000 -- ms that one sample stands for
local SAMPLED_MEMBERS = 20
local MOST_HOLDS = 500

-- @include clock

local policy = cmsgpack.unpack(ARGV[1])
local flush_field = 'flush:' .. policy.worker
local at, last_flush = unpack(call('HMGET', STATISTICS, 'at', flush_field))
local counts_more = ARGV[2] ~= ''
if counts_more and last_flush == ARGV[2] then return {NOW, 0} end

local span = at and NOW - at or 0
-- Otherwise another worker has just taken a sample.
local samples = not at or span >= SAMPLE_EVERY or span < 0
if not samples and not counts_more then return {NOW, 0} end

-- Each key is read before the first write (see parts/check_types.lua). Under maxmemory that write is refused, and the
-- worker sends the flush again later.
local names = {'accepted', 'delivered', 'retried', 'throttled', 'failed', 'unregistered', 'expired', 'duplicate',
               'collapsed', 'dropped', 'cancelled', 'malformed', 'revived', 'claimed'}
local fields = {}
for index, name in ipairs(names) do fields[index] = 'total:' .. name end
local now, before = call('HMGET', CONTROL, unpack(names)), call('HMGET', STATISTICS, unpack(fields))
local paused, paused_until, state, hold, unexpanded, override, ended =
    unpack(call('HMGET', CONTROL, 'paused', 'paused_until', 'state', 'hold', 'unexpanded', 'override', 'ended'))
local backlog = call('HLEN', BODIES) - call('ZCARD', DUE) + tonumber(unexpanded or 0)
-- @include oldest
local oldest = samples and backlog > 0 and oldest_age() or 0
local windows = {
  {key = MINUTE, keep = KEEP_MINUTE, is_new = call('HLEN', MINUTE) == 0},
  {key = HOUR, keep = KEEP_HOUR, is_new = call('HLEN', HOUR) == 0},
}
if #ARGV > 5 then call('XLEN', JOURNAL) end
if ended then call('XLEN', HOLDS) end

-- The tightest rate in force (messages a second; 0: unlimited): that of an operator replaces the configured one.
local function rate_in_force()
  local readable, order = pcall(cjson.decode, override or '')
  if not readable or type(order) ~= 'table' or type(order.rates) ~= 'table' then return policy.rate end
  local ends = tonumber(order['until']) or 0
  if ends > 0 and ends <= NOW then return policy.rate end
  local rate
  for _, one in ipairs(order.rates) do
    local per_second = type(one) == 'table' and tonumber(one[2])
    if per_second and per_second > 0 then rate = math.min(rate or per_second, per_second) end
  end
  return rate or policy.rate
end

-- The changes of this call to both windows: sums, reasons (of which a window has only so many) and maxima.
local fields_of_sums, sums, fields_of_reasons, reasons, fields_of_maxima, maxima = {}, {}, {}, {}, {}, {}

local function add(field, by)
  fields_of_sums[#fields_of_sums + 1], sums[#sums + 1] = field, by
end

local function add_reason(reason, by)
  fields_of_reasons[#fields_of_reasons + 1], reasons[#reasons + 1] = 'r:' .. reason, by
end

local function raise(field, value)
  fields_of_maxima[#fields_of_maxima + 1], maxima[#maxima + 1] = field, value
end

-- Few calls, because each one costs more than a field.
local function save(window)
  local changes = {}
  local function set(field, value)
    changes[#changes + 1], changes[#changes + 2] = field, whole(value)
  end
  if #sums > 0 then
    for index, old in ipairs(call('HMGET', window.key, unpack(fields_of_sums))) do
      set(fields_of_sums[index], (old or 0) + sums[index])
    end
  end
  if #reasons > 0 then
    local known, others, more = tonumber(call('HGET', window.key, 'reasons') or 0), 0, 0
    for index, old in ipairs(call('HMGET', window.key, unpack(fields_of_reasons))) do
      if old or known + more < MOST_REASONS then
        if not old then more = more + 1 end
        set(fields_of_reasons[index], (old or 0) + reasons[index])
      else
        others = others + reasons[index]
      end
    end
    if more > 0 then set('reasons', known + more) end
    if others > 0 then set('r:other', (call('HGET', window.key, 'r:other') or 0) + others) end
  end
  if #maxima > 0 then
    for index, old in ipairs(call('HMGET', window.key, unpack(fields_of_maxima))) do
      if maxima[index] > tonumber(old or -1) then set(fields_of_maxima[index], maxima[index]) end
    end
  end
  if #changes > 0 then call('HSET', window.key, unpack(changes)) end
end

if counts_more then
  for field, by in pairs(cmsgpack.unpack(ARGV[3])) do add(field, by) end
  for reason, by in pairs(cmsgpack.unpack(ARGV[4])) do add_reason(reason, by) end
end
-- @include record_groups
local groups = counts_more and cmsgpack.unpack(ARGV[5]) or {}

local news = counts_more and {flush_field, ARGV[2]} or {}
local some_grew, rate = false, rate_in_force()
for index, name in ipairs(names) do
  local grown = tonumber(now[index] or 0) - tonumber(before[index] or 0)
  if grown ~= 0 then
    some_grew = true
    news[#news + 1], news[#news + 2] = fields[index], now[index] or 0
    if grown > 0 then
      if name ~= 'claimed' then add('o:' .. name, grown) elseif rate > 0 then add('sent', grown) end
    end
  end
end

local is_at_rest = false
if samples then
  if paused and tonumber(paused_until or 0) > 0 and tonumber(paused_until) <= NOW then paused = false end
  if state == 'throttled' and tonumber(hold or 0) <= NOW then state = false end
  state = paused and 'paused' or state
  local is_busy = backlog > 0 or some_grew
  span = math.min(math.max(span, 0), LONGEST_SPAN)
  if state and (is_busy or state ~= 'paused') then
    add('h:' .. state, span)
    is_busy = true
  end
  is_at_rest = not (is_busy or counts_more)
  if not is_at_rest then
    if rate > 0 then add('allowed', math.floor(rate * span)) end
    if backlog > 0 then
      raise('backlog', backlog)
      raise('oldest', oldest)
    end
    news[#news + 1], news[#news + 2] = 'at', NOW
  end
end

for _, window in ipairs(windows) do
  if next(groups) then save_groups(window.key, groups) end
  save(window)
  if window.is_new then call('EXPIRE', window.key, window.keep) end -- if it has not come into being, nothing happens
end
for index = 6, #ARGV do
  call('XADD', JOURNAL, 'MAXLEN', '~', policy.journal, '*', 'entry', ARGV[index])
end
if #news > 0 then call('HSET', STATISTICS, unpack(news)) end
if ended then
  -- Several may have ended since the last flush. The first value is false if another program wrote the field.
  local holds = {pcall(cmsgpack.unpack, ended)}
  for place = 2, holds[1] and #holds or 0 do
    call('XADD', HOLDS, 'MAXLEN', '~', MOST_HOLDS, '*', 'hold', cmsgpack.pack(holds[place]))
  end
  call('HDEL', CONTROL, 'ended')
end
return {NOW, is_at_rest and 1 or 0}
