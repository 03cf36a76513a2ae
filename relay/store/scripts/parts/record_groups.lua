-- The attempts of the largest groups in a window. The number of fields is bounded: a group that is not among them replaces
-- the smallest one and inherits its rank, so that a group that sends much stays, whenever it begins ("space saving"). Its
-- counts are those since then; `rank` is the count of the earlier groups in its place.
local MOST_GROUPS = 20

local function counts_of(value)
  local delivered, failed, rank = string.match(value, '^(%d+) (%d+) (%d+)$')
  return tonumber(delivered or 0), tonumber(failed or 0), tonumber(rank or 0)
end

-- The fields of all groups in the window, the largest first.
local function known_groups(key)
  local found, all = {}, call('HGETALL', key)
  for index = 1, #all, 2 do
    if string.sub(all[index], 1, 2) == 'g:' then
      local delivered, failed, rank = counts_of(all[index + 1])
      found[#found + 1] = {field = all[index], total = delivered + failed + rank}
    end
  end
  table.sort(found, function(a, b) return a.total > b.total end)
  return found
end

-- `groups`: name -> {delivered, failed}, at most MOST_GROUPS of them.
local function save_groups(key, groups)
  local fields, attempts = {}, {}
  for name, one in pairs(groups) do
    fields[#fields + 1], attempts[#attempts + 1] = 'g:' .. name, one
  end
  local known, changes, leaving = tonumber(call('HGET', key, 'groups') or 0), {}, {}
  local olds, is_present, smallest = call('HMGET', key, unpack(fields)), {}, nil
  for index, field in ipairs(fields) do is_present[field] = olds[index] and true or nil end
  local function set(field, delivered, failed, rank)
    changes[#changes + 1], changes[#changes + 2] = field, whole(delivered) .. ' ' .. whole(failed) .. ' ' .. whole(rank)
  end
  for index, old in ipairs(olds) do
    local delivered, failed, rank = 0, 0, 0
    if old then
      delivered, failed, rank = counts_of(old)
    elseif known < MOST_GROUPS then
      known = known + 1
    else
      smallest = smallest or known_groups(key)
      while #smallest > 0 and is_present[smallest[#smallest].field] do table.remove(smallest) end
      local last = table.remove(smallest)
      if last then
        leaving[#leaving + 1], rank = last.field, last.total
      else
        known = known + 1
      end
    end
    set(fields[index], delivered + attempts[index][1], failed + attempts[index][2], rank)
  end
  changes[#changes + 1], changes[#changes + 2] = 'groups', whole(known)
  call('HSET', key, unpack(changes))
  if #leaving > 0 then call('HDEL', key, unpack(leaving)) end
end
