-- Puts a message into the lane instead of a dead letter: a malformed element that is valid by now, or a letter whose
-- payload an operator has edited.
--
-- @key SOURCE  the stream that has the letter
-- ARGV   1 policy (see parts/items.lua)
--        2 the id of the letter
--        3.. its message (see parts/items.lua)
-- reply  'done'; 'gone' if there is no such letter; 'duplicate' if its id is pending: the letter stays
--
-- Atomic because two operators may retry the same letter.

local FIRST = 3 -- the argument with the message

-- @include lane
-- @include numbers
-- @include count

local policy = cmsgpack.unpack(ARGV[1])
-- @include check_types
if not call('XRANGE', SOURCE, ARGV[2], ARGV[2])[1] then return 'gone' end
-- @include records
local first_header = header_of(ARGV[4])
if first_header and first_header.id and call('HEXISTS', IDS, first_header.id) == 1 then return 'duplicate' end
-- @include items
call('XDEL', SOURCE, ARGV[2])
return 'done'
