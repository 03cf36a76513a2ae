-- Checks the keys that only messages with a header use (see check_types.lua). A lane seldom has the keys that EXISTS
-- asks for together, and a key that does not exist has no wrong type.
if call('EXISTS', COLLAPSE, ORDERING, BLOCKED, FANS, TARGETS, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3], SUSPECTS) > 0 then
  for _, key in ipairs({COLLAPSE, ORDERING, FANS, TARGETS, SUSPECTS}) do call('HLEN', key) end
  for level = 1, 3 do call('LLEN', FAN_OUTS[level]) end
  call('ZCARD', BLOCKED)
end
-- @if groups
if call('EXISTS', WAITING[1], WAITING[2], WAITING[3], ROTATION[1], ROTATION[2], ROTATION[3],
        GROUPS, GROUPS_DUE, GROUPS_IN_FLIGHT, GROUPS_TRIED) > 0 then
  -- @include check_groups
end
-- @end
call('HLEN', IDS)
call('ZCARD', SEEN)
call('XLEN', DEAD)
call('XLEN', OUTBOX)
