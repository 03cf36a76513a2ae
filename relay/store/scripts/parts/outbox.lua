-- The outbox holds letters in the slot of the lane until they are forwarded to the key that they are for.
local function post(letter)
  call('XADD', OUTBOX, '*', 'letter', cmsgpack.pack(letter))
end
