-- The beginning of every lane script.
--
-- A ticket is the number of a message within its lane: sequence * 4 + priority (0 high, 1 normal, 2 low).
-- Tickets are never used twice, so a list may hold one whose message has ended long ago: it has no body any
-- more, and a script that meets it passes on.

-- @include clock

-- Under maxmemory Redis refuses commands that may grow a key, unless the script has written before. Messages
-- that are already there must reach their end, so every script starts with a write that changes nothing.
call('HDEL', CONTROL, '')
