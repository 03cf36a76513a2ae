-- Messages that may go now, as far as rate and holds allow. With groups, all that wait in a priority of which some group
-- may send: counting those of the other groups apart would cost too much.
local function count_ready(grouped)
  local ready = call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
  -- @if groups
  for level = 1, grouped and 3 or 0 do
    if call('EXISTS', ROTATION[level]) == 1 then ready = ready + call('ZCARD', WAITING[level]) end
  end
  -- @end
  return ready
end
