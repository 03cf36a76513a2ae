-- Messages that begin to wait for the turn of their group, collected by priority: members (of WAITING, with scores) and
-- names (of groups).
-- @include group_member
-- @include group_state

local function add_waiting(waiting, level, name, ticket)
  local found = waiting[level]
  if not found then
    found = {members = {}, names = {}, known = {}}
    waiting[level] = found
  end
  local members = found.members
  members[#members + 1] = 0
  members[#members + 1] = group_member(name, ticket)
  if not found.known[name] then
    found.known[name] = true
    found.names[#found.names + 1] = name
  end
end

-- Groups that are out stay out.
local function save_waiting(waiting)
  if next(waiting) then call('HSET', CONTROL, 'grouped', '1') end -- a lane without groups looks for it
  local some_states = next(waiting) and call('EXISTS', GROUPS) > 0
  for level, found in pairs(waiting) do
    call('ZADD', WAITING[level], unpack(found.members))
    local states, entering = some_states and call('HMGET', GROUPS, unpack(found.names)) or {}, {}
    for index, name in ipairs(found.names) do
      local state = states[index] and state_of(states[index])
      if not (state and state.out) then
        entering[#entering + 1] = 0
        entering[#entering + 1] = name
      end
    end
    if #entering > 0 then call('ZADD', ROTATION[level], unpack(entering)) end
  end
end
