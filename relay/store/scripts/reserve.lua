-- Reserves the tickets of a batch whose records the worker writes itself (see enqueue_written.lua).
--
-- ARGV   1 how many messages
--        2 the batch id, a field of the control hash, '' for none
--        3 sequence number of the batch
-- reply  the last number before theirs; nil if the batch is in the lane
--
-- Atomic because no two messages may have the same ticket.

-- @include lane
-- @include numbers

if ARGV[2] ~= '' and call('HGET', CONTROL, ARGV[2]) == ARGV[3] then return false end
return whole(reserve_numbers('sequence', tonumber(ARGV[1])))
