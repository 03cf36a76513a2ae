-- @include pass_turn

-- Removes everything that a lane stores of a message except its record: id, collapse key, turn of its ordering key.
local function forget(ticket, header, lifo)
  if header.id and call('HGET', IDS, header.id) == ticket then call('HDEL', IDS, header.id) end
  if header.collapse_key and call('HGET', COLLAPSE, header.collapse_key) == ticket then
    call('HDEL', COLLAPSE, header.collapse_key)
  end
  if header.ordering_key then pass_turn(ticket, header.ordering_key, lifo) end
end
