-- Lifts a pause and every hold. Suspects are tried once more, and end by themselves if they are refused again.
--
-- ARGV   1 lifo ('1' or '0')
-- reply  how many messages are ready

-- @include lane
-- @include records
-- @include blame
-- @include ready_count

-- @include check_types

release_suspects(function() return true end, function() return false end, ARGV[1] == '1')
call('HDEL', CONTROL, 'paused', 'state', 'hold', 'reason', 'since', 'retry_after_until', 'throttles', 'failures', 'window',
     'window_failed', 'window_answered', 'doubts', unpack(doubt_fields))
return count_ready()
