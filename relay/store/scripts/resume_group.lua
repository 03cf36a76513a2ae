-- Lifts a pause, a hold, an open breaker and the end of a disabled group.
--
-- ARGV   1 policy (MessagePack map): groups (see group_states.lua)
--        2 group
-- reply  1 if the group was out, or disabled; otherwise 0
--
-- Atomic because a group that may send must be in the rotation if something waits.

-- @include lane
-- @include check_types

local policy = cmsgpack.unpack(ARGV[1])
-- @include group_states
open_groups({ARGV[2]})
local group = groups[ARGV[2]]
local state = change(group)
local was_held = state.out or state.disabled or state.paused
for _, field in ipairs({'paused', 'disabled', 'hold', 'state', 'reason', 'waves', 'behind', 'failures', 'failed_at', 'since',
                        'window', 'failed', 'answered'}) do
  state[field] = nil
end
enter_rotation(group)
save_groups()
return was_held and 1 or 0
