-- Messages that begin to wait for the turn of their group, collected by priority: members (of WAITING, with scores),
-- names (of groups), and starts (of the members of each group).
-- @include group_member
-- @include group_state
-- @include add_members

local function add_waiting(waiting, level, name, ticket)
  local found = waiting[level]
  if not found then
    found = {members = {}, names = {}, starts = {}}
    waiting[level] = found
  end
  local start = found.starts[name]
  if not start then
    start = start_of_members(name)
    found.starts[name] = start
    found.names[#found.names + 1] = name
  end
  local members = found.members
  local length = #members
  members[length + 1], members[length + 2] = '0', start .. sixteen_digits(ticket)
end

-- Groups that are out stay out.
local function save_waiting(waiting)
  if next(waiting) then call('HSET', CONTROL, 'grouped', '1') end -- a lane without groups looks for it
  local some_states = next(waiting) and call('EXISTS', GROUPS) > 0
  for level, found in pairs(waiting) do
    add_members(WAITING[level], found.members)
    local states, entering = some_states and call('HMGET', GROUPS, unpack(found.names)) or {}, {}
    for index, name in ipairs(found.names) do
      local state = states[index] and state_of(states[index])
      if not (state and state.out) then
        local length = #entering
        entering[length + 1], entering[length + 2] = '0', name
      end
    end
    add_members(ROTATION[level], entering)
  end
end
