-- Ends the hold of a lane for one message: the next claim hands out a single one, and its answer decides whether the
-- lane goes on holding.
--
-- reply  the state of the lane that tries one; otherwise '' (it does not hold), 'paused' or 'throttled'

-- @include lane

local paused, paused_until, state, hold = unpack(call('HMGET', CONTROL, 'paused', 'paused_until', 'state', 'hold'))
local pause_ends = tonumber(paused_until or 0)
if paused and (pause_ends == 0 or pause_ends > NOW) then return 'paused' end
if state == 'throttled' then return tonumber(hold or 0) > NOW and state or '' end
if not state then return '' end
call('HSET', CONTROL, 'hold', NOW)
return state
