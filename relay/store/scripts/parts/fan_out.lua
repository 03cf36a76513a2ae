-- Fan-outs. One message to many targets waits like any other until its turn comes; then it moves to
-- FAN_OUTS, from where workers take it, a chunk of its targets at a time, and put these back as messages
-- of their own. FANS holds for the ticket of each fan-out that has not ended
--   {left: targets that have not ended, rest: of them not yet messages, next: chunk, chunks: their
--    number, size: targets in a chunk, stop: '' or how the waiting ones are to end, ended: outcome ->
--    number, window: dedup (ms), header}
-- and TARGETS, under ticket:chunk, the targets that are not yet messages.
-- @include fans
-- @include forget
-- @include remember
-- @include receipt

-- Counts the targets of all fan-outs that are not yet messages: operators see them as waiting.
local function count_unexpanded(by)
  if by ~= 0 then call('HINCRBY', CONTROL, 'unexpanded', by) end
end

local function drop_targets(ticket, fan)
  count_unexpanded(-fan.rest)
  local fields = {}
  for chunk = fan.next, fan.chunks do fields[#fields + 1] = ticket .. ':' .. chunk end
  if #fields > 0 then call('HDEL', TARGETS, unpack(fields)) end
end

-- So many targets of a fan-out have ended; the last one ends it, with one receipt for all.
local function tally(ticket, fan, outcome, number, lifo)
  if count_ended(ticket, fan, outcome, number) > 0 then return end
  call('HDEL', FANS, ticket)
  call('HDEL', BODIES, ticket)
  call('HDEL', TRIES, ticket)
  local header = fan.header
  forget(ticket, header, lifo)
  if fan.ended.delivered then remember(header.id, fan.window) end
  receipt(header, fan.ended[outcome] == header.targets and outcome or 'partial', '', 0, fan.ended)
end

-- Targets that are not yet messages never become any; those that are and wait end when a claim meets them.
-- Returns how many ended immediately.
local function stop_fan_out(ticket, outcome, lifo)
  local fan = fan_out(ticket)
  if not fan then return 0 end
  drop_targets(ticket, fan)
  local rest = fan.rest
  fan.rest, fan.next, fan.stop = 0, fan.chunks + 1, outcome
  if rest > 0 then tally(ticket, fan, outcome, rest, lifo) else save_fan_out(ticket, fan) end
  return rest
end
