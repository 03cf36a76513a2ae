-- @include outbox

-- `ended`, of a fan-out: outcome -> how many of its targets ended so.
local function receipt(header, outcome, reason, attempts, ended)
  if not header.reply_to then return end
  if header.ordering_key and (outcome == 'dead' or outcome == 'rejected') then
    reason = reason .. '; its ordering_key goes on without it'
  end
  local id = header.public_id or header.id or ''
  post({'receipt', header.reply_to, id, outcome, reason, tonumber(attempts), NOW, ended})
end
