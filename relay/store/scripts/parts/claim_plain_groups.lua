-- The common case of a lane with groups: nothing waits but messages of normal priority whose header names just their
-- group and their fan-out, no group has a state or more messages than its concurrency allows, it is the turn of no
-- fan-out, and the lane has neither rates nor a state. It comes before the other functions of the script (see
-- claim_plain.lua), and reads all keys before it writes any.

do
  -- Returns fields of CONTROL unless anything else waits or has a state. If chunks of fan-outs wait as well, it also
  -- returns how many messages go before the next one after this claim (see special.lua).
  local function plain_control()
    if ARGV[PLAIN] ~= '1' or ARGV[SHARED] ~= '0' or ARGV[WANTED] == '0' then return nil end
    local others = call('EXISTS', READY[1], READY[2], READY[3], DUE, TRIES, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3],
                        ROTATION[1], ROTATION[3], GROUPS, GROUPS_DUE)
    local some_fan_out = others == 1 and call('EXISTS', FAN_OUTS[2]) == 1
    if others > 0 and not some_fan_out then return nil end
    local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'override', 'fencing_token', 'claimed',
                         'cursor:2', 'fan:2')
    if control[1] or control[2] or control[3] or control[4] then return nil end
    if not some_fan_out then return control, nil end
    local before = tonumber(control[8] or 0) - ARGV[WANTED]
    if before <= 0 or call('ZCARD', WAITING[2]) < tonumber(ARGV[WANTED]) or call('EXISTS', ROTATION[2]) == 0 then
      return nil
    end
    return control, before
  end

  -- Returns whether the fan-out of a target has not been stopped.
  local function is_live_target(record)
    local high, low = string.byte(record, 1, 2)
    local last = 2 + high * 256 + low
    local target = string.sub(record, last - TICKET_LENGTH, last)
    if not live_targets[target] then
      local header = cmsgpack.unpack(string.sub(record, 3, last))
      local packed = call('HGET', FANS, header.part_of)
      live_targets[target] = not packed or cmsgpack.unpack(packed).stop == ''
    end
    return live_targets[target]
  end

  local control, until_fan_out = plain_control()
  if control then
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
      if in_flight < 0 then in_flight = -in_flight end
      local name, may = names[index], math.max(0, math.min(share, concurrency - in_flight))
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
        local start = sub(record, 3, 9)
        if start ~= ONLY_GROUP and not (start == ONLY_TARGET and is_live_target(record)) then
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
    if plain and not (until_fan_out and total < most) then
      -- A removal comes first of the writes, so that under maxmemory the others are not refused (see parts/lane.lua).
      if #gone > 0 then call('ZREM', ROTATION[2], unpack(gone)) end
      if #members > 0 then call('ZREM', WAITING[2], unpack(members)) end
      if total > 0 then
        local in_flight = {}
        for owner, number in pairs(sent) do
          local before, length = (counts[owner] or 0) + 0, #in_flight
          if before < 0 then number = -number end
          in_flight[length + 1], in_flight[length + 2] = names[owner], whole(before + number)
        end
        set_fields(INFLIGHT, leases)
        set_fields(GROUPS_IN_FLIGHT, in_flight)
        reply[6] = held + total
      end
      call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole((control[6] or 0) + total),
           'cursor:2', names[#names])
      if until_fan_out then call('HSET', CONTROL, 'fan:2', whole(until_fan_out)) end
      -- Without more in any group, nothing is left. Otherwise the next claim takes the rest.
      if total < most and #gone == #names and #names < most then reply[1], reply[2] = 'empty', -1 end
      return reply
    end
  end
end
