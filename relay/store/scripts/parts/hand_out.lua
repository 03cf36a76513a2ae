-- Hands out the messages of a claim: fills `reply` and `leases`, and counts in `total`, `given` and `passed_over`.

-- If a key has a wrong type, popped tickets go back: nothing else has been written for them yet.
local popped = {}
local function put_back(problem)
  for round = #popped, 1, -1 do
    local tickets = popped[round]
    for index = #tickets, 1, -1 do to_head(tickets[index], lifo) end
  end
  -- Redis 6.2 cannot raise the table of an error.
  if type(problem) == 'table' and not redis.REDIS_VERSION_NUM then problem = problem.err end
  error(problem)
end

-- The next place of a popped message that has a header. If that is not simply the worker, all keys are checked,
-- because the message may touch any.
local function route(ticket, header, level, tries)
  if not (header.targets or header.part_of or header.expires and header.expires <= NOW or header.deliver and header.deliver > NOW) then
    return 'out'
  end
  if not special then special = load_special(call, NOW, NOW_US, policy) end
  if not checked then
    checked = true
    local fine, problem = pcall(special.check_header_types)
    if not fine then put_back(problem) end
  end
  due_is_known = false
  return special.route(ticket, header, level, tries)
end

-- A message that goes out can be collapsed no more.
local function free_collapse_key(ticket, key)
  local newest = redis.pcall('HGET', COLLAPSE, key)
  if type(newest) == 'table' then put_back(newest) end
  if newest == ticket then call('HDEL', COLLAPSE, key) end
end

-- @include only_target
local sub, byte = string.sub, string.byte
-- @if groups
local token_of_group = token .. ' '
-- @end

-- Hands out messages that have left their places, as far as they may go. `owners` are the groups that the messages
-- came from, if they came from some. Returns how many went out.
local function hand_out(tickets, records, level, owners)
  local tries = some_tried and call('HMGET', TRIES, unpack(tickets)) or {}
  local ended, before = {}, total
  local lease_field, field = 2 * total, 6 + 3 * total
  for index = 1, #tickets do
    local ticket, record = tickets[index], records[index]
    if record then
      local place, lease = 'out', token
      -- @if groups
      local owner = owners and owners[index]
      if not (owner and sub(record, 3, 9) == ONLY_GROUP) then
      -- @end
        local high, low = byte(record, 1, 2)
        if low ~= 0 or high ~= 0 then
          local last = 2 + high * 256 + low
          local target = sub(record, 3, 9) == ONLY_TARGET and sub(record, last - TICKET_LENGTH, last)
          if not (target and live_targets[target]) then
            local header = cmsgpack.unpack(sub(record, 3, last))
            place = route(ticket, header, level, tries[index])
            if header.collapse_key and (place == 'out' or place == 'fan-out') then
              free_collapse_key(ticket, header.collapse_key)
            end
            if target and place == 'out' then live_targets[target] = true end
          end
        end
      -- @if groups
      end
      -- @end
      if place == 'out' then
        -- @if groups
        if owner then
          owner.sent = owner.sent + 1
          lease = token_of_group .. owner.name
        end
        -- @end
        leases[lease_field + 1], leases[lease_field + 2] = ticket, lease
        reply[field + 1], reply[field + 2], reply[field + 3] = ticket, record, tries[index] or ''
        lease_field, field = lease_field + 2, field + 3
      elseif place == 'ended' then
        ended[#ended + 1] = ticket
      elseif place == 'fan-out' then
        some_fan_out = true
      end
    end
  end
  total = (field - 6) / 3
  given[level] = given[level] + total - before
  if #ended > 0 then
    call('HDEL', BODIES, unpack(ended))
    call('HDEL', TRIES, unpack(ended))
    passed_over = passed_over + #ended
  end
  return total - before
end

-- Takes up to `most` live messages of one priority from its list. Returns whether the list is exhausted.
local pop = lifo and 'RPOP' or 'LPOP'
local function take(level, most)
  while most > 0 and scanned < MOST_SCANNED do
    local tickets = call(pop, READY[level], most)
    if not tickets then return true end
    scanned = scanned + #tickets
    if not checked then popped[#popped + 1] = tickets end
    local records = redis.pcall('HMGET', BODIES, unpack(tickets))
    if records.err then put_back(records) end
    most = most - hand_out(tickets, records, level)
  end
  return false
end
