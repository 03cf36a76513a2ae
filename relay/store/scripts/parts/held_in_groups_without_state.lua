-- Leaves `tickets` to settle.lua unless this worker holds all of them under these `tokens`, and neither a group nor the
-- lane has a state that a success changes. free_groups.lua writes what remains in flight of their groups.
-- @include whole

if call('EXISTS', GROUPS) == 1 then return false end
local control = call('HMGET', CONTROL, 'state', 'doubts', 'throttles', 'window', 'groups_window', 'groups_throttled',
                     'failures')
for field = 1, 6 do
  if control[field] then return false end
end
if control[7] and control[7] ~= '0' then return false end

local leases = call('HMGET', INFLIGHT, unpack(tickets))
local names, freed, prefix_of, prefix = {}, {}, nil, nil
for index = 1, #tickets do
  local lease, token = leases[index], tokens[index]
  if lease ~= token then
    if token ~= prefix_of then prefix_of, prefix = token, token .. ' ' end
    if not lease or string.find(lease, prefix, 1, true) ~= 1 then return false end
    local name = string.sub(lease, #prefix + 1)
    if not freed[name] then names[#names + 1] = name end
    freed[name] = (freed[name] or 0) + 1
  end
end
local counts = #names > 0 and call('HMGET', GROUPS_IN_FLIGHT, unpack(names)) or {}

-- The rest in flight of a group that has answered is stored as a negative number (see parts/group_states.lua).
local answered, idle, texts = {}, {}, {}
for index = 1, #names do
  local name, count = names[index], (counts[index] or 0) + 0
  local left = (count < 0 and -count or count) - freed[name]
  if left > 0 then
    texts[left] = texts[left] or whole(-left)
    local length = #answered
    answered[length + 1], answered[length + 2] = name, texts[left]
  else
    idle[#idle + 1] = name
  end
end
