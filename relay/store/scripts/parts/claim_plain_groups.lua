-- The common case of a lane with groups: nothing waits but messages of normal priority whose header names just their
-- group, no group has a state or more messages than its concurrency allows, and the lane has neither rates nor a state. It comes before the
-- other functions of the script (see claim_plain.lua), and reads all keys before it writes any.
if ARGV[PLAIN] == '1' and ARGV[SHARED] == '0' and ARGV[WANTED] ~= '0'
   and call('EXISTS', READY[1], READY[2], READY[3], DUE, TRIES, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3],
            ROTATION[1], ROTATION[3], GROUPS, GROUPS_DUE) == 0 then
  local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'override', 'fencing_token', 'claimed', 'cursor:2')
  if not (control[1] or control[2] or control[3] or control[4]) then
    local most, cursor = tonumber(ARGV[WANTED]), control[7] or ''
    local names = call('ZRANGEBYLEX', ROTATION[2], '(' .. cursor, '+', 'LIMIT', '0', ARGV[WANTED])
    if #names < most and cursor ~= '' then
      local rest = call('ZRANGEBYLEX', ROTATION[2], '-', '[' .. cursor, 'LIMIT', '0', whole(most - #names))
      for index = 1, #rest do names[#names + 1] = rest[index] end
    end
    local held = call('HLEN', INFLIGHT)
    if #names == 0 then return {'empty', -1, 0, {}, 0, held} end
    local share = math.floor(most / #names)
    local counts = call('HMGET', GROUPS_IN_FLIGHT, unpack(names))
    local concurrency = tonumber(ARGV[CONCURRENCY])
    if concurrency == 0 then concurrency = math.huge end

    -- One message of each group in a round.
    local rounds, gone, plain, starts, limits = {}, {}, true, {}, {}
    for round = 1, share do rounds[round] = {} end
    for index = 1, #names do
      local in_flight = (counts[index] or 0) + 0
      local name, may = names[index], math.max(0, math.min(share, concurrency - (in_flight < 0 and -in_flight or in_flight)))
      starts[#name] = starts[#name] or '[' .. #name .. ':'
      limits[may] = limits[may] or whole(may + 1)
      local low = starts[#name] .. name .. ':'
      local members = call('ZRANGEBYLEX', WAITING[2], low, low .. '\255', 'LIMIT', '0', limits[may])
      if not members[may + 1] then
        gone[#gone + 1] = name
      elseif may < share then
        plain = false
        break
      end
      for round = 1, math.min(may, #members) do
        local found = rounds[round]
        found[#found + 1], found[#found + 2] = index, members[round]
      end
    end
    local members, tickets, owners, sub = {}, {}, {}, string.sub
    for round = 1, plain and share or 0 do
      local found = rounds[round]
      for place = 1, #found, 2 do
        local member, length = found[place + 1], #tickets + 1
        local ticket = sub(member, -16)
        members[length], owners[length] = member, found[place]
        tickets[length] = ticket < '1' and whole(ticket) or ticket
      end
    end
    local records = #tickets > 0 and call('HMGET', BODIES, unpack(tickets)) or {}
    local token = whole(last_number(control[5]) + 1)
    local reply, leases, total = {'ok', 0, tonumber(token), {}, 0, held}, {}, 0
    local token_of_group, sent = token .. ' ', {}
    for index = 1, plain and #tickets or 0 do
      local record = records[index]
      if record then
        if sub(record, 3, 9) ~= ONLY_GROUP then
          plain = false
          break
        end
        local owner, place = owners[index], 6 + 3 * total
        sent[owner] = (sent[owner] or 0) + 1
        leases[2 * total + 1], leases[2 * total + 2] = tickets[index], token_of_group .. names[owner]
        reply[place + 1], reply[place + 2], reply[place + 3] = tickets[index], record, ''
        total = total + 1
      end
    end
    if plain then
      -- A removal comes first of the writes, so that under maxmemory the others are not refused (see parts/lane.lua).
      if #gone > 0 then call('ZREM', ROTATION[2], unpack(gone)) end
      if #members > 0 then call('ZREM', WAITING[2], unpack(members)) end
      if total > 0 then
        local in_flight = {}
        for owner, number in pairs(sent) do
          local before, length = (counts[owner] or 0) + 0, #in_flight
          in_flight[length + 1], in_flight[length + 2] = names[owner], whole(before < 0 and before - number or before + number)
        end
        set_fields(INFLIGHT, leases)
        set_fields(GROUPS_IN_FLIGHT, in_flight)
        reply[6] = held + total
      end
      call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole((control[6] or 0) + total), 'cursor:2', names[#names])
      -- Without more in any group, nothing is left. Otherwise the next claim takes the rest.
      if total < most and #gone == #names and #names < most then reply[1], reply[2] = 'empty', -1 end
      return reply
    end
  end
end
