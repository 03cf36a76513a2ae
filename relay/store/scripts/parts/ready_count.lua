-- Messages that may go now, as far as rate and holds allow. With groups, one for each group that may send and each
-- priority: counting them all would cost too much.
local function count_ready(grouped)
  local ready = call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
  -- @if groups
  if grouped then
    ready = ready + call('ZCARD', ROTATION[1]) + call('ZCARD', ROTATION[2]) + call('ZCARD', ROTATION[3])
  end
  -- @end
  return ready
end
