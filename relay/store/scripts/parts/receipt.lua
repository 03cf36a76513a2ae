-- @include outbox

-- `ended`, of a fan-out: outcome -> how many of its targets ended so.
-- `status` (HTTP, nil or 0 if unknown) and `provider_id` (nil if it gave none) are from the provider's answer.
local function receipt(header, outcome, reason, attempts, ended, status, provider_id)
  if not header.reply_to then return end
  if header.ordering_key and (outcome == 'dead' or outcome == 'rejected') then
    reason = reason .. '; its ordering_key goes on without it'
  end
  local id = header.public_id or header.id or ''
  local letter = {'receipt', header.reply_to, id, outcome, reason, tonumber(attempts), NOW, ended}
  -- A list without holes, so that it is packed as one.
  if status or provider_id then letter[8], letter[9], letter[10] = ended or '', status or 0, provider_id or '' end
  post(letter)
end
