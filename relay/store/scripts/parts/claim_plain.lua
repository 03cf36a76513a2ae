-- The common case: nothing waits but messages of normal priority without a header, and the lane has neither rates nor
-- a state. It comes before the other functions of the script, because Lua creates each function again at each call: a
-- claim of one message takes 0.4 of the instructions.
if ARGV[PLAIN] == '1' and ARGV[WANTED] ~= '0'
   and call('EXISTS', READY[1], READY[3], DUE, TRIES, FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]) == 0 then
  local control = call('HMGET', CONTROL, 'paused', 'state', 'doubts', 'grouped', 'override', 'fencing_token', 'claimed')
  if not (control[1] or control[2] or control[3] or control[4] or control[5]) then
    local held = call('HLEN', INFLIGHT)
    -- LPOP comes first of the writes, so that under maxmemory the others are not refused (see parts/lane.lua).
    local tickets = call('LPOP', READY[2], ARGV[WANTED])
    if not tickets then return {'empty', -1, 0, {}, 0, held} end
    local records = redis.pcall('HMGET', BODIES, unpack(tickets))
    local plain = not records.err
    local token = whole(last_number(control[6]) + 1)
    local reply, leases, total = {'ok', 0, tonumber(token), {}, 0, held}, {}, 0
    for index = 1, plain and #tickets or 0 do
      local record = records[index]
      if record then
        local high, low = string.byte(record, 1, 2)
        if low ~= 0 or high ~= 0 then
          plain = false
          break
        end
        local place = 6 + 3 * total
        reply[place + 1], reply[place + 2], reply[place + 3] = tickets[index], record, ''
        leases[2 * total + 1], leases[2 * total + 2] = tickets[index], token
        total = total + 1
      end
    end
    if plain then
      if total >= FEW then
        call('HSET', INFLIGHT, LONG_FIELD, '', unpack(leases))
        call('HDEL', INFLIGHT, LONG_FIELD)
      elseif total > 0 then
        call('HSET', INFLIGHT, unpack(leases))
      end
      if total > 0 then
        reply[6] = held + total
        call('HSET', CONTROL, 'fencing_token', token, 'claimed', whole((control[7] or 0) + total))
      end
      -- As many tickets as wanted, some of which had ended: there may be more.
      if #tickets < tonumber(ARGV[WANTED]) then reply[1], reply[2] = 'empty', -1 end
      return reply
    end
    for index = #tickets, 1, -1 do call('LPUSH', READY[2], tickets[index]) end
  end
end
