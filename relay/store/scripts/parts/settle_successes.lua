-- The common case: all messages were delivered, none of them is part of a fan-out or has a header (besides its group),
-- and the lane has no state that a success changes. It comes before the other functions of the script, because Lua
-- creates each function again at each call.
if #wanted == 0 and not some_target and asked_state == '' and not (state or window or throttles or doubts)
   and (failures or '0') == '0' then
  -- Types are checked before the first write; BODIES is that write.
  local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)
  -- @if groups
  if some_group then
    -- @include check_groups
  end
  local ready = count_ready(policy.groups and not some_group)
  -- @else
  local ready = count_ready(policy.groups)
  -- @end
  if #tickets > 0 then
    -- A message whose body is gone was already counted, for a worker that had it before.
    local ended = call('HDEL', BODIES, unpack(tickets))
    if some_tried then call('HDEL', TRIES, unpack(tickets)) end
    call('HDEL', INFLIGHT, unpack(tickets))
    call('HINCRBY', CONTROL, 'delivered', ended)
  end
  -- @if groups
  if some_group then
    local names, delivered = {}, {}
    for index = 1, #outcomes do
      local name = group_of[index]
      if name then
        local number = delivered[name]
        if not number then names[#names + 1] = name end
        delivered[name] = (number or 0) + 1
      end
    end
    -- @include group_states
    open_groups(names)
    local some_trouble = groups_window or groups_throttled
    for index = 1, #names do
      local group = groups[names[index]]
      some_trouble = some_trouble or group.is_stored and has_trouble(group.state)
      local number = group.in_flight - delivered[names[index]]
      group.in_flight, group.answered = number > 0 and number or 0, true
    end
    local changes = {}
    if some_trouble then
      for name, number in pairs(delivered) do
        by_group[name] = {freed = number, answered = number, delivered = number, broken = 0, row = 0}
      end
      local _, changes_of_groups = settle_groups()
      changes = changes_of_groups
    else
      for index = 1, #names do
        local group = groups[names[index]]
        if group.state.full then revise(group) end
      end
      save_groups()
    end
    return {#tickets, 0, '', 0, letters, count_ready(true), '', changes}
  end
  -- @end
  return {#tickets, 0, '', 0, letters, ready, ''}
end
