-- Milliseconds until an adaptive rate that was lowered to nothing is back at its full height.
local CLIMB_MS = 20000
