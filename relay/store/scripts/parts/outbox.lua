-- The outbox holds letters in the slot of the lane until they are forwarded to the key that they are for.
local function post(letter)
  call('XADD', OUTBOX, '*', 'letter', cmsgpack.pack(letter))
end

-- `ended`, of a fan-out: outcome -> how many of its targets ended so.
local function receipt(header, outcome, reason, attempts, ended)
  if header.reply_to == '' then return end
  if outcome == 'dead' or outcome == 'rejected' then
    if header.ordering_key ~= '' then reason = reason .. '; its ordering_key goes on without it' end
  end
  post({'receipt', header.reply_to, header.public_id or header.id, outcome, reason, tonumber(attempts), NOW, ended})
end
