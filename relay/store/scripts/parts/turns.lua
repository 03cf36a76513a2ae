-- Serves the groups of a lane in turns. GROUPS_DUE and the rotations are looked at here, the state of each group in
-- group_states.lua.
--
-- `hand_out(tickets, records, level, heads)` hands out messages that have left their places; heads[n].sent counts those
-- that go out. `bury(ticket)` makes a dead letter of a message of a disabled group.

-- @include check_types
-- @include group_states
-- @include oldest_members
-- @include records

local MOST_DUE_GROUPS = 32
local MOST_BURIED = 20 -- messages of one disabled group

local turns = {}

-- Groups of a priority take turns in the order of their names. The cursor is the one that had the last turn.
local cursors = call('HMGET', CONTROL, 'cursor:1', 'cursor:2', 'cursor:3')
local function next_names(level, number)
  local cursor = cursors[level] or ''
  local names = call('ZRANGEBYLEX', ROTATION[level], '(' .. cursor, '+', 'LIMIT', 0, number)
  if #names < number and cursor ~= '' then
    for _, name in ipairs(call('ZRANGEBYLEX', ROTATION[level], '-', '[' .. cursor, 'LIMIT', 0, number - #names)) do
      names[#names + 1] = name
    end
  end
  return names
end

-- Messages in groups that may send: none if all groups of the priority are out.
function turns.count(level)
  if call('ZCARD', ROTATION[level]) == 0 then return 0 end
  local waiting = call('ZCARD', WAITING[level])
  if waiting == 0 then call('DEL', ROTATION[level]) end -- their messages were taken back
  return waiting
end

-- Lets groups in again whose time has come. Returns whether more of them wait for it.
function turns.admit()
  local due = call('ZRANGEBYSCORE', GROUPS_DUE, '-inf', NOW, 'LIMIT', 0, MOST_DUE_GROUPS)
  if #due == 0 then return false end
  open_groups(due)
  for _, name in ipairs(due) do
    groups[name].changed = true
    revise(groups[name])
  end
  save_groups()
  groups = {}
  return #due == MOST_DUE_GROUPS
end

-- Puts messages that are due among those of their groups. Returns those that have none.
function turns.promote(due)
  local rest, members, names, entering = {}, {{}, {}, {}}, {{}, {}, {}}, {{}, {}, {}}
  for index, record in ipairs(call('HMGET', BODIES, unpack(due))) do
    local ticket, header = due[index], record and header_of(record)
    if header and header.group then
      local level = ticket % 4 + 1
      table.insert(members[level], 0)
      table.insert(members[level], group_member(header.group, ticket))
      table.insert(names[level], header.group)
    elseif record then
      rest[#rest + 1] = ticket
    end
  end
  for level = 1, 3 do
    open_groups(names[level])
    for _, name in ipairs(names[level]) do
      if not groups[name].state.out then
        table.insert(entering[level], 0)
        table.insert(entering[level], name)
      end
    end
    if #members[level] > 0 then call('ZADD', WAITING[level], unpack(members[level])) end
    if #entering[level] > 0 then call('ZADD', ROTATION[level], unpack(entering[level])) end
  end
  return rest
end

-- The first messages of each group, at most `share`: {group, members}, and of which priority there are more.
local function heads(level, names, share)
  local found = {}
  for _, name in ipairs(names) do
    local group, prefix = groups[name], #name .. ':' .. name .. ':'
    local may = allowance(group, group.state.disabled and MOST_BURIED or share)
    if may < 1 then
      leave_rotation(group)
    else
      local low, high = '[' .. prefix, '[' .. prefix .. '\255'
      local members = lifo and call('ZREVRANGEBYLEX', WAITING[level], high, low, 'LIMIT', 0, may + 1)
                      or call('ZRANGEBYLEX', WAITING[level], low, high, 'LIMIT', 0, may + 1)
      local more = #members > may
      if more then members[#members] = nil end
      found[#found + 1] = {group = group, members = members, more = more, sent = 0}
    end
  end
  return found
end

-- Hands out up to `most` messages of one priority, one for each group and round. Returns whether no group of the
-- priority may send any more, and how many groups it has looked at.
function turns.take(level, most, hand_out, bury)
  local names = next_names(level, most)
  if #names == 0 then return true, 0 end
  local share = math.floor(most / #names)
  open_groups(names)
  local found = heads(level, names, share)
  local tickets, owners, members = {}, {}, {}
  for round = 1, share do
    for _, head in ipairs(found) do
      local member = not head.group.state.disabled and head.members[round]
      if member then
        members[#members + 1] = member
        tickets[#tickets + 1] = ticket_of(member)
        owners[#owners + 1] = head
      end
    end
  end
  -- Before anything is handed out: a message that ends may let another one of its group go.
  local gone = {}
  for _, head in ipairs(found) do
    if not head.more then gone[#gone + 1] = head.group.name end
  end
  if #gone > 0 then call('ZREM', ROTATION[level], unpack(gone)) end
  if #tickets > 0 then
    local records = call('HMGET', BODIES, unpack(tickets))
    call('ZREM', WAITING[level], unpack(members))
    hand_out(tickets, records, level, owners)
  end
  for _, head in ipairs(found) do
    local group = head.group
    if group.state.disabled and #head.members > 0 then
      call('ZREM', WAITING[level], unpack(head.members))
      for _, member in ipairs(head.members) do bury(ticket_of(member)) end
    end
    if head.sent > 0 then
      spend(group, head.sent)
      if head.more and allowance(group, 1) < 1 then leave_rotation(group) end
    end
  end
  cursors[level] = names[#names]
  return false, #names
end

function turns.save()
  call('HSET', CONTROL, 'cursor:1', cursors[1] or '', 'cursor:2', cursors[2] or '', 'cursor:3', cursors[3] or '')
  save_groups()
end
