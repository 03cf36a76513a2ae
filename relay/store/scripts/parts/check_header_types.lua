-- Checks the keys that only messages with a header use (see check_types.lua). A lane seldom has the keys that EXISTS
-- asks for together, and a key that does not exist has no wrong type.
if call('EXISTS', COLLAPSE, ORDERING, BLOCKED, FANS, TARGETS, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3],
        DESTINATIONS, DESTINATIONS_DUE, DEFERRED, SUSPECTS) > 0 then
  for _, key in ipairs({COLLAPSE, ORDERING, FANS, TARGETS, DESTINATIONS, SUSPECTS}) do call('HLEN', key) end
  for level = 1, 3 do call('LLEN', FAN_OUTS[level]) end
  for _, key in ipairs({BLOCKED, DESTINATIONS_DUE, DEFERRED}) do call('ZCARD', key) end
end
call('HLEN', IDS)
call('ZCARD', SEEN)
call('XLEN', DEAD)
call('XLEN', OUTBOX)
