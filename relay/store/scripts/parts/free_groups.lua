-- Writes what held_in_groups_without_state.lua has found to remain in flight.
-- @include set_fields
set_fields(GROUPS_IN_FLIGHT, answered)
if #idle > 0 then call('HDEL', GROUPS_IN_FLIGHT, unpack(idle)) end
