-- The common case: all messages were delivered, none of them has a header (besides its group), and the lane has no
-- state that a success changes. It comes before the other functions of the script, because Lua creates each function
-- anew at each call.
if #wanted == 0 and asked_state == '' and not (state or window or throttles or doubts) and (failures or '0') == '0' then
  -- Types are checked before the first write; BODIES is that write.
  local some_tried, letters = call('HLEN', TRIES) > 0, call('XLEN', OUTBOX)
  local ready = count_ready(policy.groups)
  -- @if groups
  if some_group then
    -- @include check_groups
    local delivered = {}
    for index = 1, #outcomes do
      local name = group_of[index]
      if name then delivered[name] = (delivered[name] or 0) + 1 end
    end
    for name, number in pairs(delivered) do
      by_group[name] = {freed = number, answered = number, delivered = number, broken = 0, row = 0}
    end
  end
  -- @end
  if #tickets > 0 then
    call('HDEL', BODIES, unpack(tickets))
    if some_tried then call('HDEL', TRIES, unpack(tickets)) end
    call('HDEL', INFLIGHT, unpack(tickets))
    call('HINCRBY', CONTROL, 'delivered', #tickets)
  end
  -- @if groups
  if some_group then
    local _, changes = settle_groups()
    return {#tickets, 0, '', 0, letters, count_ready(true), '', changes}
  end
  -- @end
  return {#tickets, 0, '', 0, letters, ready, ''}
end
