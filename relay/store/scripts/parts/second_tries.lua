-- Suspects, in a function as in special.lua: few lanes have any.
local function load_doubt(call, NOW)
  -- @include blame

  local doubt = open_doubt()

  -- Ends messages whose targets are gone, if no more of them came. Returns how many.
  function doubt.report()
    if doubt.report_at == 0 or doubt.report_at > NOW or state == 'unregistered' then return 0 end
    local before = call('HLEN', SUSPECTS)
    release_suspects(function(fields) return fields.gone end, function() return true end, lifo)
    doubt.report_at = 0
    save_doubt(doubt)
    return before - call('HLEN', SUSPECTS)
  end

  -- Tries a suspect again: the one whose last refusal is the longest ago, so that none is tried twice in a row.
  -- Returns false if a message is in flight whose answer may decide.
  function doubt.retry()
    if count_others() > 0 then return false end
    local first
    for _, found in ipairs(suspects(function(fields) return not fields.gone or state == 'unregistered' end)) do
      if not first or found.fields.since < first.fields.since then first = found end
    end
    if first then
      call('HDEL', SUSPECTS, first.ticket)
      retry_suspect(first.ticket, 0, lifo)
    end
    return true
  end

  return doubt
end
