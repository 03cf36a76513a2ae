-- Messages that may go now, as far as rate and holds allow.
local function count_ready()
  return call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
end
