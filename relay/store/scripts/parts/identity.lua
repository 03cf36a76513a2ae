-- What a lane remembers of a message besides its record: id, collapse key, turn of its ordering key.
-- @include groups

local function forget(ticket, header, lifo)
  if header.id ~= '' and call('HGET', IDS, header.id) == ticket then call('HDEL', IDS, header.id) end
  if header.collapse_key ~= '' and call('HGET', COLLAPSE, header.collapse_key) == ticket then
    call('HDEL', COLLAPSE, header.collapse_key)
  end
  pass_turn(ticket, header, lifo)
end

-- For `window` milliseconds another message with this id is a duplicate.
local function remember(id, window)
  if window > 0 and id ~= '' then call('ZADD', SEEN, NOW + window, id) end
end
