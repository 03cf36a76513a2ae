-- A script that fails halfway is not rolled back, so every script reads each key that it is going to write before
-- it moves anything: a key that somebody gave another type raises WRONGTYPE while all messages are still in their
-- places. This checks all keys of the lane.
-- @include check_header_types
call('HLEN', BODIES)
for level = 1, 3 do call('LLEN', READY[level]) end
call('ZCARD', DUE)
local some_tried = call('HLEN', TRIES) > 0
