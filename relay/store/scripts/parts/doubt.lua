-- States of a lane that came from refusals, and not from failures: see blame.lua.

-- States in which a lane holds until the provider accepts a message.
local held_states = {unauthorised = true, unregistered = true, faulty = true}

local function in_doubt(state)
  return state == 'trial' or held_states[state] or false
end
