-- Serves the groups of a lane in turns. GROUPS_DUE and the rotations are looked at here, the state of each group in
-- group_states.lua.
--
-- `hand_out(tickets, records, level, owners)` hands out messages that have left their places; owners[n].sent counts those
-- that go out. `bury(ticket)` makes a dead letter of a message of a disabled group.
local function load_turns(call, NOW, NOW_US, policy, lifo, worker)
  -- @include check_types
  -- @include group_states
  -- @include ticket_of
  -- @include records

  local sub = string.sub
  local MOST_DUE_GROUPS = 32
  local MOST_REVIEWED = 200 -- groups
  local MOST_BURIED = 40 -- messages of disabled groups in one claim

  -- only_fresh: while most groups fail, only groups without failures and with nothing in flight may send.
  -- some_full: a group has more messages than its concurrency allows.
  local turns = {some_passed = false, some_full = false, only_fresh = false}
  local burials = MOST_BURIED -- that are left

  -- Groups of a priority take turns in the order of their names. The cursor is the one that had the last turn.
  local cursors = call('HMGET', CONTROL, 'cursor:1', 'cursor:2', 'cursor:3', 'turned')
  local turned = tonumber(cursors[4] or 0) -- when the last claim was (ms)
  local function next_names(level, number)
    local cursor = cursors[level] or ''
    local names = call('ZRANGEBYLEX', ROTATION[level], '(' .. cursor, '+', 'LIMIT', 0, number)
    if #names < number and cursor ~= '' then
      local rest = call('ZRANGEBYLEX', ROTATION[level], '-', '[' .. cursor, 'LIMIT', 0, number - #names)
      if #names == 0 then return rest end
      for index = 1, #rest do names[#names + 1] = rest[index] end
    end
    return names
  end

  -- Messages in groups that may send: none if all groups of the priority are out.
  local sizes = {0, 0, 0} -- groups in the rotations
  function turns.count(level)
    sizes[level] = call('ZCARD', ROTATION[level])
    if sizes[level] == 0 then return 0 end
    local waiting = call('ZCARD', WAITING[level])
    if waiting == 0 then call('DEL', ROTATION[level]) end -- their messages were taken back
    return waiting
  end

  local function revise_all(names)
    open_groups(names)
    for _, name in ipairs(names) do
      change(groups[name])
      revise(groups[name])
    end
    save_groups()
    groups = {}
  end

  -- The clock was set back: groups that wait for a token wait from now on. Returns whether more of them may do so.
  local function review()
    local found = call('ZRANGEBYSCORE', GROUPS_DUE, turned, '+inf', 'WITHSCORES', 'LIMIT', 0, MOST_REVIEWED)
    local names, more = {}, #found == 2 * MOST_REVIEWED
    for index = 1, #found, 2 do names[#names + 1] = found[index] end
    revise_all(names)
    turned = more and math.max(turned + 1, tonumber(found[#found])) or NOW
    call('HSET', CONTROL, 'turned', turned)
    return more
  end

  -- Lets groups in again whose time has come. Returns whether more of them wait for it.
  function turns.admit()
    local more = turned > NOW and #rules.rates > 0 and review()
    local due = call('ZRANGEBYSCORE', GROUPS_DUE, '-inf', NOW, 'LIMIT', 0, MOST_DUE_GROUPS)
    if #due == 0 then return more end
    call('ZREM', GROUPS_DUE, unpack(due)) -- also those without a state
    revise_all(due)
    return more or #due == MOST_DUE_GROUPS
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
    if #rest < #due then call('HSET', CONTROL, 'grouped', '1') end -- as in wait_in_group.lua
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

  -- A group that hangs must not take all slots of a worker from the others. So groups that failed lately, or that have
  -- messages in flight and no answer yet, share only some of the slots. If many are free, a claim shares one at least.
  local spare, least = math.huge, 0
  if worker.shared > 0 then
    spare = worker.shared - worker.held
    least = 2 * worker.wanted >= worker.shared and 1 or 0
  end

  -- Whether the next claim shares a slot, after this one has handed out so many messages. If not, a settle frees one.
  function turns.shares_more(handed_out)
    return not turns.only_fresh and 2 * (worker.wanted - handed_out) >= worker.shared
  end

  -- Reduces the messages that groups may send, `may` of each, to the slots that are left for them.
  local function share_slots(names, may)
    if spare == math.huge and not turns.only_fresh then return end
    local firsts, sharing = {}, 0
    for index, name in ipairs(names) do
      local group = groups[name]
      if may[index] > 0 and not group.state.disabled then
        local first = 0 -- messages that need no shared slot
        if (group.state.failures or 0) == 0 then
          if group.was_in_flight < 0 and not turns.only_fresh then
            first = may[index]
          elseif group.in_flight == 0 then
            first = 1
          end
        end
        firsts[index], spare = first, spare - first
        if may[index] > first then sharing = sharing + 1 end
      end
    end
    for index in ipairs(names) do
      local first = firsts[index]
      if first and may[index] > first then
        local slots = turns.only_fresh and 0 or math.max(spare, least)
        local number = math.max(0, math.min(may[index] - first, math.ceil(slots / sharing)))
        if number > 0 then least = 0 end
        spare, sharing = spare - number, sharing - 1
        may[index] = first + number
        if may[index] == 0 then turns.some_passed = true end
      end
    end
  end

  -- How many messages each group may send, at most `share`. A group that may send none leaves the rotation.
  local function allowances(names, share)
    local may = {}
    for index = 1, #names do
      local group = groups[names[index]]
      local number = concurrency - group.in_flight
      if number > share then number = share end
      if has_rates or number < 1 or group.state ~= NEUTRAL then
        local disabled = group.state.disabled
        number = allowance(group, disabled and MOST_BURIED or share)
        if number < 1 then
          leave_rotation(group)
          turns.some_full = turns.some_full or group.state.full
        end
        if disabled then
          number = math.min(number, burials)
          burials = burials - math.max(0, number)
        end
      end
      may[index] = number
    end
    share_slots(names, may)
    return may
  end

  -- The first messages of a group that wait, at most `number`.
  local starts = {} -- of members, by the length of the group's name
  local function first_members(level, name, number)
    local start = starts[#name]
    if not start then
      start = '[' .. #name .. ':'
      starts[#name] = start
    end
    local low = start .. name .. ':'
    if lifo then return call('ZREVRANGEBYLEX', WAITING[level], low .. '\255', low, 'LIMIT', '0', number) end
    return call('ZRANGEBYLEX', WAITING[level], low, low .. '\255', 'LIMIT', '0', number)
  end

  -- The provider may mean only the messages that it throttled, so those that waited when the hold was over go first.
  -- `members` are the first ones of a group, all of them if `complete`. Returns at most `number` of them, and whether
  -- there are more.
  local function others_first(group, level, members, number, complete)
    local behind, turn, is_behind = group.state.behind, {}, {}
    for _, member in ipairs(members) do turn[ticket_of(member)] = tonumber(ticket_of(member)) end
    for index, found in ipairs(behind) do
      local ticket, time = found[1], found[2]
      is_behind[ticket] = turn[ticket] or not (complete and ticket % 4 + 1 == level)
      if turn[ticket] then turn[ticket] = lifo and -index or time * NUMBERS_A_MILLISECOND * 4 + index end
    end
    table.sort(members, function(a, b)
      local first, second = turn[ticket_of(a)], turn[ticket_of(b)]
      if lifo then return first > second end
      return first < second
    end)
    local has_more = #members > number
    for index = #members, number + 1, -1 do members[index] = nil end
    for _, member in ipairs(members) do is_behind[ticket_of(member)] = nil end
    local left = {}
    for _, found in ipairs(behind) do
      if is_behind[found[1]] then left[#left + 1] = found end
    end
    change(group).behind = #left > 0 and left or nil
    return members, has_more
  end

  -- The first messages of a group, at most `number`, and whether it has more.
  local function first_of(group, level, number)
    local behind = group.state.behind
    if behind then
      local most = number + #behind + 1
      local members = first_members(level, group.name, text_of(most))
      return others_first(group, level, members, number, #members < most)
    end
    local members = first_members(level, group.name, texts[number + 1] or text_of(number + 1))
    local has_more = members[number + 1]
    if has_more then members[number + 1] = nil end
    return members, has_more
  end

  -- Looks up the first messages of all groups that may send. Returns members, tickets and owners of these messages, in
  -- rounds of one for each group; the groups that send, and whether each has more; the names of groups that have no
  -- more; and the members of disabled groups, which are to be buried.
  local function heads(level, names, share)
    local may = allowances(names, share)
    local members, tickets, owners, length = {}, {}, {}, 0
    local function add(member, group)
      local ticket = sub(member, -16)
      length = length + 1
      members[length], tickets[length], owners[length] = member, ticket < '1' and whole(ticket) or ticket, group
    end

    local later, senders, has_more, gone, buried = {}, {}, {}, {}, {}
    for index = 1, #names do
      local number = may[index]
      if number > 0 then
        local name = names[index]
        local group = groups[name]
        local first, more = first_of(group, level, number)
        if not more then gone[#gone + 1] = name end
        if group.state.disabled then
          burials = burials + number - #first
          for _, member in ipairs(first) do buried[#buried + 1] = member end
        elseif first[1] then
          local next_sender = #senders + 1
          senders[next_sender], has_more[next_sender] = group, more
          add(first[1], group)
          if number > 1 then later[#later + 1] = {group, first} end
        end
      end
    end
    for number = 2, #later > 0 and share or 1 do
      for _, found in ipairs(later) do
        local member = found[2][number]
        if member then add(member, found[1]) end
      end
    end
    return members, tickets, owners, senders, has_more, gone, buried
  end

  local in_vain = {0, 0, 0} -- groups of each priority that were looked at since one had a message to send

  -- Hands out up to `most` messages of one priority, one for each group and round. Returns whether no group of the
  -- priority may send any more, and how many groups it has looked at.
  function turns.take(level, most, hand_out, bury)
    local names = next_names(level, most)
    if #names == 0 then return true, 0 end
    open_groups(names)
    local members, tickets, owners, senders, has_more, gone, buried = heads(level, names, math.floor(most / #names))
    -- Before anything is handed out: a message that ends may let another one of its group go.
    if #gone > 0 then call('ZREM', ROTATION[level], unpack(gone)) end
    if #tickets > 0 then
      local records = call('HMGET', BODIES, unpack(tickets))
      call('ZREM', WAITING[level], unpack(members))
      hand_out(tickets, records, level, owners)
    end
    if #buried > 0 then
      call('ZREM', WAITING[level], unpack(buried))
      for _, member in ipairs(buried) do bury(ticket_of(member)) end
    end
    for index = 1, #senders do
      local group = senders[index]
      local sent = group.sent
      if sent > 0 then
        group.sent = 0
        if not spend(group, sent) and has_more[index] then
          leave_rotation(group)
          turns.some_full = turns.some_full or group.state.full
        end
      end
    end
    take_out_of_rotations()
    cursors[level] = names[#names]
    -- If no group may use a slot now, or bury, none may in the next round.
    in_vain[level] = #tickets == 0 and in_vain[level] + #names or 0
    return in_vain[level] >= sizes[level] and (turns.some_passed or burials == 0), #names
  end

  function turns.save()
    call('HSET', CONTROL, 'cursor:1', cursors[1] or '', 'cursor:2', cursors[2] or '', 'cursor:3', cursors[3] or '',
         'turned', math.max(turned, NOW))
    save_groups()
  end

  return turns
end
