-- Leaves `tickets` to settle.lua unless this worker holds all of them under these `tokens`, and the lane has no state
-- that a success changes.
local leases = call('HMGET', INFLIGHT, unpack(tickets))
for index = 1, #tickets do
  if leases[index] ~= tokens[index] then return false end
end
local control = call('HMGET', CONTROL, 'state', 'doubts', 'throttles', 'window', 'failures')
if control[1] or control[2] or control[3] or control[4] or control[5] and control[5] ~= '0' then return false end
