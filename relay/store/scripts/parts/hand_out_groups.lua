-- Replaces `take` in a lane with groups.
if turns then
  local take_from_list = take
  local function bury(ticket)
    special = special or load_special(call, NOW, NOW_US, policy)
    special.bury(ticket)
    passed_over = passed_over + 1
  end

  -- Takes messages from the groups. A list that is left from a time without groups gets half of them.
  function take(level, most)
    local target, no_list, no_group, looked = total + most, lists[level] == 0, false, 0
    if not no_list then no_list = take_from_list(level, math.ceil(most / 2)) end
    while total < target and scanned < MOST_SCANNED and not no_group do
      no_group, looked = turns.take(level, math.min(target - total, MOST_SCANNED - scanned), hand_out, bury)
      scanned = scanned + looked
    end
    if total < target and not no_list then no_list = take_from_list(level, target - total) end
    return no_list and no_group
  end
end
