local FIRST_WAIT = 1000 -- ms
local LONGEST_WAIT = 60000

-- How long to wait at the nth wave of throttling in a row, if the answer does not say it (ms).
local function throttle_wait(waves)
  return math.min(LONGEST_WAIT, FIRST_WAIT * 2 ^ math.min(waves - 1, 16))
end
