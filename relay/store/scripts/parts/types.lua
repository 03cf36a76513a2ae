-- Checks of types. A script that fails halfway is not rolled back, so every script reads each key that it is
-- going to write before it moves anything: a key that somebody gave another type raises WRONGTYPE while all
-- messages are still in their places. A lane seldom has the keys that EXISTS asks for together, and a key that
-- does not exist has no wrong type.

-- The keys that only messages with a header use.
local function check_header_types()
  if call('EXISTS', COLLAPSE, ORDERING, BLOCKED, FANS, TARGETS, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3],
          DESTINATIONS, DESTINATIONS_DUE, DEFERRED) > 0 then
    for _, key in ipairs({COLLAPSE, ORDERING, FANS, TARGETS, DESTINATIONS}) do call('HLEN', key) end
    for level = 1, 3 do call('LLEN', FAN_OUTS[level]) end
    for _, key in ipairs({BLOCKED, DESTINATIONS_DUE, DEFERRED}) do call('ZCARD', key) end
  end
  call('HLEN', IDS)
  call('ZCARD', SEEN)
  call('XLEN', DEAD)
  call('XLEN', OUTBOX)
end

-- All keys. Returns whether a message of the lane has been tried before.
local function check_types()
  call('HLEN', BODIES)
  for level = 1, 3 do call('LLEN', READY[level]) end
  call('ZCARD', DUE)
  check_header_types()
  return call('HLEN', TRIES) > 0
end
