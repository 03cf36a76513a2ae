-- Notes a hold that is over (state, begin, end, reason), until record.lua adds it to the history of the lane. Runs only
-- when a state ends, so that messages pay nothing for the history.

-- `field`: a state and a pause may end at the same time.
local function note_hold(field, state, since, ended, reason)
  if since and (tonumber(since) or 0) > 0 then
    call('HSET', CONTROL, field, cmsgpack.pack({state, tonumber(since), tonumber(ended), reason or ''}))
  end
end

-- Notes the end of the lane's state, before the state is deleted or replaced.
local function note_state(ended)
  local state, since, reason = unpack(call('HMGET', CONTROL, 'state', 'since', 'reason'))
  if state then note_hold('state_ended', state, since, ended, reason) end
end

-- Notes the end of a pause, before it is deleted.
local function note_pause(ended)
  local paused, since, reason = unpack(call('HMGET', CONTROL, 'paused', 'paused_at', 'paused_reason'))
  if paused then note_hold('pause_ended', 'paused', since, ended, reason) end
end
