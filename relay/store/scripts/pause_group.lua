-- Pauses a group: none of its messages go out until somebody resumes it, or until the pause ends.
--
-- ARGV   1 policy (MessagePack map): groups (see group_states.lua)
--        2 group, 3 end of the pause (Unix ms; 0: none), 4 who pauses it, 5 why
-- reply  1
--
-- Atomic because a paused group must be in no rotation.

-- @include lane
-- @include check_types

local policy = cmsgpack.unpack(ARGV[1])
-- @include group_states
open_groups({ARGV[2]})
local group = groups[ARGV[2]]
change(group).paused = {till = tonumber(ARGV[3]), by = ARGV[4], at = NOW, reason = ARGV[5]}
leave_rotation(group)
save_groups()
return 1
