-- Refusals and targets that are gone. Few settles have any, so the functions are created only for those that do.
local doubt, blame
local refusal = {reason = '', state = ''}
local function load_blame()
  -- @include blame

  blame = {accept = accept, judge = judge, in_doubt = in_doubt}

  -- The provider refused a message. It waits until the lane knows who is to blame.
  function blame.refuse(entry, ticket)
    local fields = {
      gone = false, unregistered = entry[REFUSED_UNREGISTERED] == 1, reason = entry[REFUSED_REASON],
      status = entry[REFUSED_STATUS], body = ARGV[entry[REFUSED_BODY]], attempts = entry[REFUSED_ATTEMPTS],
      target = entry[REFUSED_TARGET], at = 0, id = entry[REFUSED_ID], claim = tonumber(entry[FENCING_TOKEN]),
    }
    if is_at_fault(doubt, ticket, fields.target, entry[REFUSED_AGAIN]) then
      saw_answer()
      return end_suspect(ticket, fields, lifo, entry[REFUSED_TRIES])
    end
    refusal = {reason = fields.reason, state = entry[REFUSED_STATE]}
    suspect(doubt, ticket, fields, entry[REFUSED_TRIES])
    accuse(doubt, tonumber(entry[FENCING_TOKEN]), ticket, fields.target)
  end

  -- A target is gone. Its message waits until the provider accepts another one, or no more targets are gone.
  function blame.miss(entry, ticket)
    local fields = {
      gone = true, reason = entry[UNREGISTERED_REASON], status = entry[UNREGISTERED_STATUS], target = entry[UNREGISTERED_TARGET],
      at = entry[UNREGISTERED_SINCE], id = entry[UNREGISTERED_ID], attempts = entry[UNREGISTERED_ATTEMPTS],
    }
    suspect(doubt, ticket, fields, entry[UNREGISTERED_TRIES])
    count_missing(doubt, policy.window)
  end

  doubt = open_doubt()
  doubt.overlap.count = doubt.overlap.count + delivered
end
