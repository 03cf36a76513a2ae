-- Everything about fan-outs, and messages that may not go out now. A function, because Lua creates all functions of a
-- script again at each call, and most claims need none of these.
local function load_special(call, NOW, NOW_US, policy)
  local lifo = policy.lifo
  -- @include count
  -- @include records
  -- @include fan_out
  -- @include close
  -- @include dead
  -- @include journal

  -- @if groups
  local MANY_BLOCKED = 1000 -- messages that wait in groups
  local BLOCKED_PACE = 100 -- milliseconds from one chunk of a fan-out to the next while so many are blocked
  -- @end
  local EXPIRED = 'its time to live was over before it could be sent'

  -- How the waiting targets of each fan-out end that was looked up in this call: '' if they may go.
  local stops = {}

  -- How a message ends that must not go out any more, or nil.
  local function stopped(header)
    if header.expires and header.expires <= NOW then return 'expired' end
    local part_of = header.part_of
    if not part_of then return nil end
    local stop = stops[part_of]
    if not stop then
      local fan = fan_out(part_of)
      stop = fan and fan.stop or ''
      stops[part_of] = stop
    end
    return stop ~= '' and stop or nil
  end

  local special = {} -- next_at: when the next chunk of a fan-out may go, if blocked messages delay it

  function special.check_header_types()
    -- @include check_header_types
  end

  function special.check_types()
    -- @include check_types
  end

  -- The next place of a message that was taken from its place: 'out' (to the worker), 'ended', 'due' or 'fan-out'. It has gone there already, unless it goes out.
  function special.route(ticket, header, level, tries)
    local stop = stopped(header)
    if stop then
      local attempts = tonumber(string.match(tries or '', '^%d+') or 0)
      local record = policy.journal and call('HGET', BODIES, ticket)
      if record then journal(record, stop, EXPIRED, attempts) end
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
          journal(record, 'expired', EXPIRED, 0)
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
      local turn = before <= 0 or exhausted[level]
      -- @if groups
      -- If many messages wait because their groups may not send, the next chunk would most likely wait with them. But it
      -- may have targets in other groups.
      if turn and exhausted[level] and call('ZCARD', WAITING[level]) >= MANY_BLOCKED then
        local last = tonumber(call('HGET', CONTROL, 'fanned:' .. level) or 0)
        turn = last > NOW or NOW - last >= BLOCKED_PACE
        if turn then
          call('HSET', CONTROL, 'fanned:' .. level, NOW)
        elseif call('EXISTS', FAN_OUTS[level]) == 1 then
          special.next_at = math.min(special.next_at or math.huge, last + BLOCKED_PACE)
        end
      end
      -- @end
      if turn then chunk, before = next_fan_out(level) end
      if chunk then chunks[#chunks + 1] = chunk end
      call('HSET', CONTROL, 'fan:' .. level, before)
    end
    return chunks
  end

  -- A message of a disabled group becomes a dead letter.
  function special.bury(ticket)
    local record = call('HGET', BODIES, ticket)
    if not record then return end
    local header = header_of(record)
    local tries = call('HGET', TRIES, ticket)
    local attempts = tonumber(string.match(tries or '', '^%d+') or 0)
    add_dead_letter(ticket, record, 'group disabled', 0, '', attempts, history_of(tries))
    call('HDEL', BODIES, ticket)
    call('HDEL', TRIES, ticket)
    journal(record, 'dead', 'group disabled', attempts)
    count('failed', close(ticket, header, 'dead', 'group disabled', attempts, lifo))
  end

  return special
end
