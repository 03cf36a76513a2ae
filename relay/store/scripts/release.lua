-- Releases the messages that a worker holds to the head of the lane: at its end, or after its death.
--
-- @key INFLIGHT  hash of that worker: ticket -> fencing token, and its group if it came from one
-- ARGV   1 policy (MessagePack map): lifo, groups (see group_states.lua), journal (see parts/journal.lua)
--        2 'release' (its owner does it) or 'crash' (it died: one crash more for each message)
--        3 a message that has crashed this often is a dead letter
--        4 the most messages to release in this call
--        5.. 'keep': tickets that the owner still works on
-- reply  {released, dead letters, left to release}
--
-- Atomic because a message must never be both in flight and ready.

-- @include lane
-- @include count
-- @include records
-- @include all_to_head
-- @include fan_out
-- @include close
-- @include dead

local policy = cmsgpack.unpack(ARGV[1])
-- @include journal
local lifo, crashed = policy.lifo, ARGV[2] == 'crash'
local limit, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local keep = {}
for index = 5, #ARGV do keep[ARGV[index]] = true end

local released, dead, back = 0, 0, {}
local tickets, left = {}, 0
for _, ticket in ipairs(call('HKEYS', INFLIGHT)) do
  if not keep[ticket] then
    if #tickets < most then tickets[#tickets + 1] = ticket else left = left + 1 end
  end
end
if #tickets == 0 then return {0, 0, 0} end

-- @include check_types

-- The newest first: of several with one collapse_key it is the one that the next one replaces.
table.sort(tickets, function(a, b) return tonumber(a) > tonumber(b) end)
local records = call('HMGET', BODIES, unpack(tickets))
for index, ticket in ipairs(tickets) do
  local record = records[index]
  if record then
    local header = header_of(record)
    local saved = call('HGET', TRIES, ticket) or '0:0:0:0'
    local attempts, deliveries, crashes, alone, refused = string.match(saved, '^(%d+):(%d+):(%d+):(%d+)(.*)$')
    crashes = tonumber(crashes)
    local fan = header and header.targets and fan_out(ticket)
    -- A fan-out never meets the provider: something else killed its worker.
    if crashed and not fan then crashes = crashes + 1 end
    if crashed and crashes >= limit then
      local reason = 'poison: ' .. crashes .. ' workers died while they held it'
      add_dead_letter(ticket, record, reason, 0, '', attempts, history_of(saved))
      count('failed', 1)
      dead = dead + 1
      call('HDEL', BODIES, ticket)
      call('HDEL', TRIES, ticket)
      if header then close(ticket, header, 'dead', reason, tonumber(attempts), lifo) end
      journal(record, 'dead', reason, attempts)
    else
      call('HSET', TRIES, ticket,
           string.format('%d:%d:%d:%d%s', attempts, deliveries + 1, crashes, alone, refused))
      if header and header.collapse_key and not (fan and fan.next > 1) then
        call('HSETNX', COLLAPSE, header.collapse_key, ticket)
      end
      back[#back + 1] = {ticket, header}
      released = released + 1
    end
  end
end
local leases = call('HMGET', INFLIGHT, unpack(tickets))
call('HDEL', INFLIGHT, unpack(tickets))
all_to_head(back, lifo)

-- Groups get back the places that these messages took.
local freed = {}
for _, lease in ipairs(leases) do
  local group = string.match(lease, '^%d+ (.*)$')
  if group then freed[group] = (freed[group] or 0) + 1 end
end
if next(freed) then
  -- @include group_states
  local names = {}
  for name in pairs(freed) do names[#names + 1] = name end
  open_groups(names)
  for name, number in pairs(freed) do
    local group = groups[name]
    group.in_flight = math.max(0, group.in_flight - number)
    if group.state.full then revise(group) end
  end
  save_groups()
end
return {released, dead, left}
