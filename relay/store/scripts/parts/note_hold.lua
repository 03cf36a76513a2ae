-- Notes a hold that is over (state, begin, end, reason), until record.lua adds it to the history of the lane. Runs only
-- when a state ends, so that messages pay nothing for the history.

local LONGEST_NOTES = 4096 -- bytes: a lane that nobody flushes must not grow

local function note_hold(state, since, ended, reason)
  if since and (tonumber(since) or 0) > 0 then
    local notes = call('HGET', CONTROL, 'ended') or ''
    if #notes < LONGEST_NOTES then
      local hold = cmsgpack.pack({state, tonumber(since), tonumber(ended), reason or ''})
      call('HSET', CONTROL, 'ended', notes .. hold)
    end
  end
end

-- Notes the end of the lane's state, before the state is deleted or replaced.
local function note_state(ended)
  local state, since, reason = unpack(call('HMGET', CONTROL, 'state', 'since', 'reason'))
  if state then note_hold(state, since, ended, reason) end
end

-- Notes the end of a pause, before it is deleted.
local function note_pause(ended)
  local paused, since, reason = unpack(call('HMGET', CONTROL, 'paused', 'paused_at', 'paused_reason'))
  if paused then note_hold('paused', since, ended, reason) end
end
