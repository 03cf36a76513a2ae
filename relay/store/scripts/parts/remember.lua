-- For `window` milliseconds another message with this id is a duplicate.
local function remember(id, window)
  if window > 0 and id then call('ZADD', SEEN, NOW + window, id) end
end
