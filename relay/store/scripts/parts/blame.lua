-- Finds out who is to blame when the provider refuses a message: our credentials, or that message.
--
-- A single refusal is no proof. The refused message becomes a suspect, and the lane tries other messages, one at a
-- time: this is a trial. If the provider accepts one of them, all suspects are tried again. A suspect that is the only
-- one to be refused again ends as a dead letter. If several targets are refused and none is accepted in between, the
-- lane holds, and no message ends.
--
-- A message whose target is unregistered ("gone") is a suspect too, until the provider accepts another message or no
-- more targets are reported as gone. If too many are gone, the lane holds before any of them is reported to the
-- application.
--
-- SUSPECTS  ticket -> {gone, reason, status, body, target, at (since when it is gone), id, attempts, claim,
--             unregistered (true if the target counts as unregistered when the message ends), since (the last claim at
--             the time of the refusal)}
-- TRIES     the fifth number of a message counts how often it was tried again because another one was accepted; its
--           failed attempts come after a space (see relay/store/attempts.py)
-- CONTROL   doubts     '1' while there are suspects or counts of refusals; without it none of these fields exist
--           trial      the last claim before the trial or the hold; only answers to later claims are evidence
--           accused    targets that were refused since the last acceptance, at most MOST_ACCUSED
--           refusals   messages that were refused since the last acceptance
--           gone       {count (targets that are gone), delivered (messages meanwhile), since (ms)}
--           lone       '1' if the lane holds only because no other message waits: it tries new messages immediately
--           overlap    {count (accepted messages that were sent before the trial), claim, ticket (of the one that was
--                      sent last)}
--           report_at  when to report the targets that are gone, unless more of them follow (ms)

-- @include count
-- @include records
-- @include ready
-- @include close
-- @include dead
-- @include outbox
-- @include doubt
-- @include journal

-- The credentials are to blame after refusals of this number of targets in a row, or of messages.
local MOST_ACCUSED = 3
local MOST_REFUSALS = 10
-- The share of targets that are gone counts only from this number on.
local LEAST_GONE = 20
-- A message that was tried again so often ends, even if other messages are refused as well.
local MOST_AGAIN = 3
local REPORT_AFTER = 2000 -- ms

-- Decides about the state of the lane, by `seen` alone:
--   state       the present state of the lane
--   fault       its state if the credentials (or the adapter) are to blame
--   refused     true if a message was refused; with accused and refusals, as in CONTROL
--   others      true if other messages may be sent
--   accepted    true if a message was accepted (after a hold: one that was claimed after the hold began)
--   missing     true if another target is gone; with gone, as in CONTROL, and gone_share
-- Returns the next state (false: none), and whether the lane waits for its cooldown.
local function verdict(seen)
  local held = held_states[seen.state] or false
  if seen.refused then
    if seen.accused >= MOST_ACCUSED or seen.refusals >= MOST_REFUSALS or not seen.others then
      return seen.fault, true
    end
    return held and seen.state or 'trial', held
  end
  local gone = seen.gone
  if seen.missing and gone.count >= LEAST_GONE and gone.count >= seen.gone_share * (gone.count + gone.delivered) then
    return 'unregistered', true
  end
  if seen.accepted and in_doubt(seen.state) then return false, false end
  return seen.state, false
end

local doubt_fields = {'trial', 'accused', 'refusals', 'gone', 'lone', 'report_at', 'overlap'}

local function none_gone()
  return {count = 0, delivered = 0, since = NOW}
end

-- Returns the evidence from CONTROL, with empty fields for that of this call.
local function open_doubt()
  local last_claim, trial, accused, refusals, gone, lone, report_at, overlap =
      unpack(call('HMGET', CONTROL, 'fencing_token', unpack(doubt_fields)))
  return {
    last_claim = tonumber(last_claim or 0), trial = tonumber(trial or 0), refusals = tonumber(refusals or 0),
    accused = accused and cmsgpack.unpack(accused) or {}, gone = gone and cmsgpack.unpack(gone) or none_gone(),
    overlap = overlap and cmsgpack.unpack(overlap) or {count = 0}, lone = lone == '1', report_at = tonumber(report_at or 0),
    refused = false, missing = false, accepted = 0, probed = false, fresh = {},
  }
end

local function save_doubt(doubt)
  if doubt.refusals == 0 and doubt.gone.count == 0 and call('EXISTS', SUSPECTS) == 0 then
    call('HDEL', CONTROL, 'doubts', unpack(doubt_fields))
    return
  end
  call('HSET', CONTROL, 'doubts', '1', 'trial', string.format('%.0f', doubt.trial), 'refusals', doubt.refusals,
       'accused', cmsgpack.pack(doubt.accused), 'gone', cmsgpack.pack(doubt.gone), 'lone', doubt.lone and '1' or '0',
       'report_at', doubt.report_at, 'overlap', cmsgpack.pack(doubt.overlap))
end

local function suspect(doubt, ticket, fields, tries)
  fields.since = doubt.last_claim
  doubt.fresh[ticket] = true
  call('HSET', SUSPECTS, ticket, cmsgpack.pack(fields))
  call('HSET', TRIES, ticket, tries)
end

-- Counts the refusal of a message that was handed out by this claim.
local function accuse(doubt, claim, ticket, target)
  if doubt.trial > 0 and claim <= doubt.trial then return end -- it was sent before the trial
  doubt.refused, doubt.refusals = true, doubt.refusals + 1
  if #doubt.accused >= MOST_ACCUSED then return end
  local name = target ~= '' and target or ticket
  for _, known in ipairs(doubt.accused) do
    if known == name then return end
  end
  doubt.accused[#doubt.accused + 1] = name
end

-- Returns whether a message that is refused again is at fault: it is if no other target was refused as well.
local function is_at_fault(doubt, ticket, target, again)
  local name = target ~= '' and target or ticket
  for _, known in ipairs(doubt.accused) do
    if known ~= name then return again >= MOST_AGAIN end
  end
  return again > 0
end

-- Returns whether `one` was sent before `other`, by their claims and tickets.
local function was_sent_before(one, other, lifo)
  if one.claim ~= other.claim then return one.claim < other.claim end
  local level, other_level = one.ticket % 4, other.ticket % 4
  if level ~= other_level then return level < other_level end
  if lifo then one, other = other, one end
  return tonumber(one.ticket) < tonumber(other.ticket)
end

-- Counts the acceptance of a message that was handed out by this claim. If the message was sent before the trial, it
-- is weak evidence, because the credentials may have been revoked since.
local function accept(doubt, claim, ticket, gone_share, lifo)
  if claim > (doubt.trial > 0 and doubt.trial or doubt.last_claim) then
    doubt.accepted, doubt.fresh, doubt.overlap = math.max(doubt.accepted, claim), {}, {count = 0}
    doubt.accused, doubt.refusals, doubt.refused = {}, 0, false
  else
    local overlap, this = doubt.overlap, {claim = claim, ticket = ticket}
    overlap.count = overlap.count + 1
    if not overlap.claim or was_sent_before(overlap, this, lifo) then
      overlap.claim, overlap.ticket = claim, ticket
    end
  end
  doubt.missing = false
  doubt.gone.delivered = doubt.gone.delivered + 1
  if gone_share >= 1 then doubt.gone = none_gone() end
end

-- Counts another target that is gone.
local function count_missing(doubt, window)
  if NOW - doubt.gone.since > window then doubt.gone = none_gone() end
  doubt.gone.count = doubt.gone.count + 1
  doubt.missing, doubt.report_at = true, NOW + REPORT_AFTER
end

-- Ends a message that is at fault, with the provider's reason. `tries`: its last value for TRIES, if it is not there.
local function end_suspect(ticket, fields, lifo, tries)
  local record = call('HGET', BODIES, ticket)
  if not record then return end
  local header = header_of(record)
  tries = tries or call('HGET', TRIES, ticket)
  call('HDEL', BODIES, ticket)
  call('HDEL', TRIES, ticket)
  local outcome = (fields.gone or fields.unregistered) and 'unregistered' or 'rejected'
  if outcome == 'unregistered' then
    count('unregistered', 1)
    post({'feedback', fields.target, fields.reason, fields.at, fields.id})
  else
    count('failed', 1)
    add_dead_letter(ticket, record, fields.reason, fields.status, fields.body, fields.attempts,
                    history_of(tries))
  end
  if header then close(ticket, header, outcome, fields.reason, fields.attempts, lifo, fields.status) end
  -- If its target is gone, its worker has noted that.
  if not fields.gone then journal(record, outcome, fields.reason, fields.attempts, fields.status) end
end

-- Puts a suspect back to the head of the lane. `more` is 1 if it ends when it is refused again, else 0.
local function retry_suspect(ticket, more, lifo)
  local record = call('HGET', BODIES, ticket)
  if not record then return end
  local header = header_of(record)
  if more > 0 then
    local tries = call('HGET', TRIES, ticket) or '0:0:0:0'
    local counters, again, history = string.match(tries, '^(%d+:%d+:%d+:%d+):?(%d*)(.*)$')
    call('HSET', TRIES, ticket, counters .. ':' .. ((tonumber(again) or 0) + more) .. history)
  end
  if header and header.collapse_key then call('HSETNX', COLLAPSE, header.collapse_key, ticket) end
  to_head(ticket, lifo, header)
end

-- Returns the suspects for which `chosen(fields, ticket)` is true. The newest comes first, so that the oldest one is at
-- the head of the lane after all were put back in this order.
local function suspects(chosen)
  local found, tickets = {}, call('HKEYS', SUSPECTS)
  for _, ticket in ipairs(tickets) do
    local fields = cmsgpack.unpack(call('HGET', SUSPECTS, ticket))
    if chosen(fields, ticket) then found[#found + 1] = {ticket = ticket, fields = fields} end
  end
  table.sort(found, function(a, b) return tonumber(a.ticket) > tonumber(b.ticket) end)
  return found
end

-- Ends the chosen suspects for which `ending(fields)` is true, and puts the others back to be tried again.
-- `more(fields)`: see retry_suspect; 1 if absent.
local function release_suspects(chosen, ending, lifo, more)
  for _, found in ipairs(suspects(chosen)) do
    call('HDEL', SUSPECTS, found.ticket)
    if ending(found.fields) then
      end_suspect(found.ticket, found.fields, lifo)
    else
      retry_suspect(found.ticket, more and more(found.fields) or 1, lifo)
    end
  end
end

-- Returns how many messages of the lane are ready, or in flight on any worker: their answers will be evidence. Messages
-- of groups that may not send do not count.
local function count_others()
  local waiting = call('HLEN', SUSPECTS) + call('ZCARD', DUE) + call('ZCARD', BLOCKED)
  local ready = call('LLEN', READY[1]) + call('LLEN', READY[2]) + call('LLEN', READY[3])
  -- @if groups
  for level = 1, 3 do
    waiting = waiting + call('ZCARD', WAITING[level])
    ready = ready + call('ZCARD', ROTATION[level])
  end
  -- @end
  local moving = call('HLEN', BODIES) - waiting - call('HLEN', FANS)
  return math.max(moving, ready, call('EXISTS', FAN_OUTS[1], FAN_OUTS[2], FAN_OUTS[3]))
end

-- Applies the verdict on the evidence of this call. `enter` and `leave` change the state of the lane. `refusal` is the
-- last refusal: {reason, state}.
local function judge(doubt, state, enter, leave, refusal, policy, lifo)
  -- During a hold, messages that were sent before it are no evidence.
  local held = held_states[state] and not doubt.lone
  local others, accepted, overlap = count_others(), doubt.accepted > 0, doubt.overlap
  local function may_be_at_fault(fields, ticket)
    return (accepted or fields.gone) and not doubt.fresh[ticket]
  end
  if not accepted and not held and overlap.count > 0 and others == 0 then
    -- No other message can give more evidence. A message is at fault if it is the only one that was refused, or if most
    -- messages were accepted and one of these was sent after it. Otherwise the credentials may have been revoked in
    -- between.
    local refused = suspects(function(fields) return not fields.gone end)
    local most = overlap.claim and overlap.count >= 2 * #refused
    function may_be_at_fault(fields, ticket)
      return fields.gone or #refused == 1
             or most and was_sent_before({claim = fields.claim, ticket = ticket}, overlap, lifo)
    end
    for _, found in ipairs(refused) do
      if may_be_at_fault(found.fields, found.ticket) then
        accepted, doubt.accused, doubt.refusals, doubt.refused = true, {}, 0, false
      end
    end
  end
  if accepted or overlap.count > 0 and not held then
    release_suspects(may_be_at_fault,
      -- If the lane held because of such targets, they may have been registered again.
      function(fields) return fields.gone and state ~= 'unregistered' end, lifo)
  end
  local next_state, cooling = verdict({
    state = state, fault = refusal.state, refused = doubt.refused, accused = #doubt.accused,
    refusals = doubt.refusals, others = others > 0, accepted = accepted,
    missing = doubt.missing, gone = doubt.gone, gone_share = policy.gone_share,
  })
  if cooling then
    local reason = refusal.reason
    if next_state == 'unregistered' and doubt.missing then
      reason = doubt.gone.count .. ' targets are unregistered, and ' .. doubt.gone.delivered
               .. ' messages were delivered meanwhile'
    end
    doubt.lone = doubt.refused and #doubt.accused < MOST_ACCUSED and doubt.refusals < MOST_REFUSALS
    doubt.trial, doubt.overlap = doubt.last_claim, {count = 0}
    enter(next_state, NOW + policy.cooldown, reason)
  elseif next_state == 'trial' and doubt.refused then
    if state ~= 'trial' then doubt.trial = doubt.last_claim end
    enter('trial', NOW, refusal.reason)
  elseif not next_state and state then
    leave()
    doubt.trial, doubt.lone, doubt.overlap = 0, false, {count = 0}
  elseif state == 'trial' and doubt.probed then
    enter('trial', NOW, call('HGET', CONTROL, 'reason') or '')
  end
  save_doubt(doubt)
end
